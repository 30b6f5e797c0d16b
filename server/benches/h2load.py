#!/usr/bin/env python3
"""Drives a running store with h2load: one unary gRPC call over and over, by a client that is not ours.

    server/benches/h2load.py --target raft --operation put --clients 8 --streams 32 --requests 100000 localhost:50051

prints one line: requests a second, and the mean and the longest latency. With

    --against etcd=localhost:2379 --trials 4

it loads two stores in turns (A B B A …), prints a line for each, and how many times as much the first did: the median of the
trials, each beside the other store's next to it in time, and the least and the most of them. `chaos up --target raft|etcd|echo --json` starts a
cluster and prints its endpoints; of several, separated by commas, the one that leads is loaded. It takes h2load and nghttp
(Debian: nghttp2-client) and Python 3.

What is called:

* raft: `raft.KeyValueService` Put, and Get (linearizable);
* etcd: `etcdserverpb.KV` Put, and Range of one key (linearizable, its default);
* echo: `whitewater.Echo` with the kinds write and read: the messages have the sizes that a store's have.

h2load posts one fixed body: every request is about ONE KEY, and all puts have the same value. A store that keeps keys apart
gains nothing from that here, and one that is faster on a hot key is flattered.

It ends with 1 and the reason, and prints no numbers, unless every request had a good answer. h2load does not see trailers,
and with them the status of gRPC, so that is established otherwise. The same call is made by nghttp before and after, which
does see them, and then

* the bytes of all answers must be as many as good answers have, and an error has none: exactly as many for gets and echoes,
  whose answers are all of one size;
* after puts, whose answers grow with the index in them, the index of a raft entry, or etcd's revision, must have gone on by
  exactly one for each request, in the same term. So nobody else may write meanwhile.

A raft or etcd node that does not lead is refused: raft would refuse the puts, etcd would pass them on, and both would ask the
leader for every read.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import urllib.parse

# A connection on which so many seconds nothing happens is given up.
PATIENCE_S = 30
RAFT_LEADER = 4
ECHO_WRITE, ECHO_READ = 1, 2
UNITS_MS = {"us": 0.001, "ms": 1, "s": 1000}


class Failed(Exception):
    """Why there are no numbers."""


# Protobuf, as far as it is needed: numbers, and bytes that may be text or messages.


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def message(fields):
    """A message of these fields, by their numbers: integers and bytes. Zero and empty are left out, as in proto3."""
    out = b""
    for field, value in fields.items():
        if isinstance(value, int) and value:
            out += varint(field << 3) + varint(value)
        elif not isinstance(value, int) and value:
            out += varint(field << 3 | 2) + varint(len(value)) + value
    return out


def parse(body):
    """The fields of a message, by their numbers; of one that comes several times, the last."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = body[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(body):
        tag = number()
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            fields[field] = number()
            continue
        length = {1: 8, 5: 4}[wire] if wire != 2 else number()
        fields[field] = body[at : at + length]
        at += length
    return fields


# The stores.


class Raft:
    put_path, get_path = "/raft.KeyValueService/Put", "/raft.KeyValueService/Get"

    def put(self, key, value):
        return message({1: key, 2: value})

    def get(self, key):
        return message({1: key})

    def check_leads(self, node):
        status = parse(call(node, "/raft.KeyValueService/GetClusterStatus", b""))
        if status.get(2) != RAFT_LEADER:
            leader = status.get(4, b"").decode()
            raise Failed(f"{node} does not lead; " + (f"the leader is {leader}" if leader else "it knows no leader"))

    def value(self, answer):
        return parse(answer).get(3)

    def written(self, answer):
        """The term and the index of a put."""
        fields = parse(answer)
        return parse(fields[1]).get(2), fields[2]


class Etcd:
    put_path, get_path = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"

    put = Raft.put
    get = Raft.get

    def check_leads(self, node):
        status = parse(call(node, "/etcdserverpb.Maintenance/Status", b""))
        member, leader = parse(status[1]).get(2), status.get(4)
        if leader != member:
            raise Failed(f"{node} does not lead; " + (f"the leader is member {leader:x}" if leader else "it knows no leader"))

    def value(self, answer):
        found = parse(answer).get(2)
        return found and parse(found).get(5)

    def written(self, answer):
        """The term and the revision of a put."""
        header = parse(parse(answer)[1])
        return header.get(4), header[3]


class Echo:
    put_path = get_path = "/whitewater.Echo/Echo"

    def put(self, key, value):
        return message({1: key + value, 2: ECHO_WRITE})

    def get(self, key):
        return message({1: key, 2: ECHO_READ})

    def check_leads(self, node):
        pass

    def value(self, answer):
        """A read is answered with the key and value of the last write."""
        return parse(answer).get(1)

    def written(self, answer):
        """Nothing is counted; the answers are all of one size."""
        return None


TARGETS = {"raft": Raft, "etcd": Etcd, "echo": Echo}


# The two programs.


def framed(body):
    """The body as gRPC sends it: not compressed, and its length."""
    return b"\0" + len(body).to_bytes(4, "big") + body


def run(program, arguments, node, path, body):
    with tempfile.NamedTemporaryFile() as file:
        file.write(framed(body))
        file.flush()
        command = [program, *arguments, "-d", file.name, "-H", "content-type: application/grpc", "-H", "te: trailers"]
        try:
            done = subprocess.run([*command, f"http://{node}{path}"], stdin=subprocess.DEVNULL, capture_output=True)
        except FileNotFoundError:
            raise Failed(f"{program} is not installed; Debian has it: apt-get install nghttp2-client") from None
    if done.returncode != 0:
        raise Failed(f"{program} on {node} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def call(node, path, body):
    """One call by nghttp: the message of its answer, whose status was good."""
    # Every frame is told of after what was in it.
    out = run("nghttp", ["-v", f"--timeout={PATIENCE_S}"], node, path, body)
    stamp = rb"\[ *\d+\.\d+\] recv "
    head = {
        name: value.decode(errors="replace").strip()
        for name, value in re.findall(stamp + rb"\(stream_id=\d+\) (:status|grpc-status|grpc-message): (.*)", out)
    }
    if head.get(b":status") != "200" or head.get(b"grpc-status") != "0":
        status, grpc = head.get(b":status"), head.get(b"grpc-status")
        if status is None:
            raise Failed(f"{node} did not answer {path}; is it there, and does it speak HTTP/2 without TLS?")
        why = urllib.parse.unquote(head.get(b"grpc-message", ""))
        raise Failed(f"{node} answered {path} with HTTP {status}, gRPC status {grpc}: {why or 'no message'}")
    frames = re.finditer(stamp + rb"DATA frame <length=(\d+)", out)
    data = b"".join(out[frame.start() - int(frame[1]) : frame.start()] for frame in frames)
    if data[:1] != b"\0" or len(data) != 5 + int.from_bytes(data[1:5], "big"):
        raise Failed(f"the answer of {node} to {path} is not one message of gRPC: {data[:40]!r}")
    return data[5:]


def load(node, path, body, arguments):
    """So many calls by h2load: what it measured, and how many bytes the answers had."""
    connections = [f"--clients={arguments.clients}", f"--max-concurrent-streams={arguments.streams}"]
    limits = [f"--requests={arguments.requests}", f"--connection-inactivity-timeout={PATIENCE_S}"]
    text = run("h2load", connections + limits, node, path, body).decode()

    def found(pattern):
        match = re.search(pattern, text, re.MULTILINE)
        if match is None:
            raise Failed(f"h2load printed something unexpected, without {pattern!r}:\n{text}")
        return match

    requests = found(r"^requests: .*")[0]
    codes = found(r"^status codes: .*")[0]
    good = [f"{arguments.requests} {what}" for what in ("total", "started", "done", "succeeded")]
    good += [f"0 {what}" for what in ("failed", "errored", "timeout")]
    if requests != "requests: " + ", ".join(good) or f" {arguments.requests} 2xx," not in codes:
        raise Failed(f"not all requests were answered well: {requests}; {codes}")
    number = r"([\d.]+)(us|ms|s)\s+"
    times = found(rf"^time for request:\s+{number}{number}{number}")
    in_ms = [float(times[at]) * UNITS_MS[times[at + 1]] for at in (1, 3, 5)]
    measured = {
        "requests_per_second": float(found(r"^finished in .*?, ([\d.]+) req/s")[1]),
        "mean_ms": round(in_ms[2], 3),
        "max_ms": round(in_ms[1], 3),
    }
    return measured, int(found(r"^traffic: .*\((\d+)\) data")[1])


def check(store, arguments, before, after, data):
    """Refuses a run in which not every answer was a good one."""
    sizes = sorted(len(framed(answer)) for answer in (before, after))
    count = arguments.requests
    if not count * sizes[0] <= data <= count * sizes[1]:
        expected = " to ".join(str(count * size) for size in dict.fromkeys(sizes))
        raise Failed(
            f"{count} good answers have {expected} bytes, and these had {data}: some were errors, or somebody else wrote"
        )
    if arguments.operation == "put" and store.written(after) is not None:
        (term_before, at_before), (term, at) = store.written(before), store.written(after)
        if term != term_before:
            raise Failed(f"the term changed from {term_before} to {term} meanwhile: another node may lead now")
        if at - at_before - 1 != count:
            raise Failed(
                f"the store has carried out {at - at_before - 1} writes instead of {count}: some were refused, or somebody"
                " else wrote"
            )


def leader(store, nodes):
    reasons = []
    for node in nodes:
        try:
            store.check_leads(node)
            return node
        except Failed as reason:
            reasons.append(str(reason))
    raise Failed("; ".join(reasons))


def measure(target, nodes, arguments):
    store = TARGETS[target]()
    key, value = arguments.key.encode(), b"v" * arguments.value_size
    node = leader(store, nodes.split(","))
    put = store.put_path, store.put(key, value)
    path, body = put if arguments.operation == "put" else (store.get_path, store.get(key))
    call(node, *put)
    before = call(node, path, body)
    if arguments.operation == "get" and not (store.value(before) or b"").endswith(value):
        raise Failed(f"{node} does not give back the value that was just put")
    measured, data = load(node, path, body, arguments)
    check(store, arguments, before, call(node, path, body), data)
    return node, measured


def in_turns(sides, arguments):
    """What each of the sides did in each trial, and its node."""
    done = [[] for _ in sides]
    nodes = [None for _ in sides]
    for trial in range(arguments.trials):
        # A B, then B A: neither always comes after the other.
        order = list(range(len(sides)))
        for side in order if trial % 2 == 0 else order[::-1]:
            target, addresses = sides[side]
            try:
                nodes[side], measured = measure(target, addresses, arguments)
            except Failed as reason:
                raise Failed(f"trial {trial + 1} of {target}: {reason}") from reason
            except (KeyError, IndexError, TypeError) as missing:
                raise Failed(f"trial {trial + 1} of {target}: an answer is not one of {target} ({missing!r})") from missing
            done[side].append(measured)
    return nodes, done


def ratio(first, second, name):
    """Of the trials that stand beside each other, as a ratio of `name`."""
    ratios = [a[name] / b[name] for a, b in zip(first, second)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def side(text):
    target, equals, nodes = text.partition("=")
    if not equals or target not in TARGETS or not nodes:
        raise argparse.ArgumentTypeError(f"{text} is not one of {', '.join(TARGETS)}, = and addresses")
    return target, nodes


def arguments():
    parser = argparse.ArgumentParser(description="Loads a running store with h2load.", epilog="See the head of this file.")

    def at_least(least):
        def number(text):
            if int(text) < least:
                raise argparse.ArgumentTypeError(f"{text} is less than {least}")
            return int(text)

        return number

    parser.add_argument("--target", choices=TARGETS, required=True, help="what the node is")
    parser.add_argument("--operation", choices=["put", "get"], default="put")
    parser.add_argument("--clients", type=at_least(1), default=8, metavar="C", help="connections [8]")
    parser.add_argument("--streams", type=at_least(1), default=32, metavar="M", help="calls under way on each [32]")
    parser.add_argument("--requests", type=at_least(1), default=100_000, metavar="N", help="in all [100000]")
    parser.add_argument("--value-size", type=at_least(0), default=256, metavar="BYTES", help="of the value [256]")
    parser.add_argument("--key", default="h2load", help="the one key [h2load]")
    parser.add_argument("--against", type=side, metavar="TARGET=HOST:PORT[,…]", help="a second store, loaded in turns with it")
    parser.add_argument("--trials", type=at_least(1), default=1, metavar="N", help="of each store [1]")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a line")
    parser.add_argument("nodes", metavar="HOST:PORT[,…]", help="the leader, or nodes among which it is")
    parsed = parser.parse_args()
    if parsed.requests < parsed.clients:
        parser.error("every client makes a request: --requests must not be less than --clients")
    return parsed


def line(load, node, trials):
    rates = ", ".join(f"{trial['requests_per_second']:.0f}" for trial in trials)
    means = ", ".join(f"{trial['mean_ms']:.3f}" for trial in trials)
    longest = max(trial["max_ms"] for trial in trials)
    return (
        f"{load['target']} {load['operation']}: {rates} requests/s, mean {means} ms, max {longest:.3f} ms"
        f" ({load['requests']} requests, {load['clients']} × {load['streams']} at a time, {load['value_size']} bytes, {node})"
    )


def main():
    asked = arguments()
    sides = [(asked.target, asked.nodes)] + ([asked.against] if asked.against else [])
    try:
        nodes, done = in_turns(sides, asked)
    except Failed as reason:
        sys.exit(f"error: {reason}")
    load = {name: getattr(asked, name) for name in ("operation", "clients", "streams", "requests", "value_size")}
    stores = [
        {"target": target, **load, "node": node, "trials": trials}
        for (target, _), node, trials in zip(sides, nodes, done)
    ]
    ratios = {name: ratio(*done, name) for name in ("requests_per_second", "mean_ms")} if asked.against else None
    if asked.json:
        print(json.dumps({"stores": stores, "ratios": ratios} if ratios else stores[0]))
        return
    for store in stores:
        print(line(store, store["node"], store["trials"]))
    for name, of in (ratios or {}).items():
        print(f"{sides[0][0]} / {sides[1][0]}, {name.replace('_', ' ')}: {of['median']:.2f} ({of['min']:.2f} to {of['max']:.2f})")


if __name__ == "__main__":
    main()
