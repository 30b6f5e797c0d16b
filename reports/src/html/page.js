"use strict";
// One cursor across all charts: point at a moment, read every chart's data for it. The page is complete without this.
// Reads only the tables that are already in the page, and writes only text.
(() => {
  const LEFT = 84, RIGHT = 984;
  const SKIPPED = ["from", "to", "#", "injecting", "in force", "healing", "healed"];
  const plots = [...document.querySelectorAll("svg[data-axis]")];
  const span = plots.length ? Number(plots[0].dataset.axis) : 0;
  if (!(span > 0)) return;

  const charts = plots.map((svg) => {
    const line = document.createElementNS(svg.namespaceURI, "line");
    line.setAttribute("class", "cursor");
    line.setAttribute("y1", "0");
    line.setAttribute("y2", String(svg.viewBox.baseVal.height - 22));
    svg.append(line);
    svg.tabIndex = 0;
    const table = document.getElementById(svg.dataset.table);
    const names = table ? [...table.tHead.rows[0].cells] : [];
    const rows = table ? [...table.tBodies[0].rows].filter((row) => row.dataset.a !== undefined) : [];
    return { svg, line, names, rows };
  });

  const box = document.createElement("div");
  box.className = "reading";
  box.setAttribute("role", "status");
  document.body.append(box);

  const sentence = (chart, row) => chart.names.map((name, n) => {
    const cell = row.cells[n].textContent;
    if (SKIPPED.includes(name.textContent)) return "";
    return name.className === "text" ? cell : name.textContent + " " + cell;
  }).filter((part) => part).join("  ");

  let now = 0;
  const show = (time, x, y) => {
    now = Math.min(Math.max(time, 0), span);
    const place = String(LEFT + (now / span) * (RIGHT - LEFT));
    box.replaceChildren();
    const head = document.createElement("strong");
    head.textContent = (now / 1000).toFixed(3) + " s";
    box.append(head);
    for (const chart of charts) {
      chart.line.setAttribute("x1", place);
      chart.line.setAttribute("x2", place);
      const there = chart.rows.filter((row) => Number(row.dataset.a) <= now && now < Number(row.dataset.b));
      for (const text of there.map((row) => sentence(chart, row)).sort()) {
        const item = document.createElement("div");
        item.textContent = text;
        box.append(item);
      }
    }
    document.body.classList.add("pointing");
    const room = document.documentElement.clientWidth;
    box.style.left = Math.max(4, x + 16 + box.offsetWidth > room ? x - 16 - box.offsetWidth : x + 16) + "px";
    box.style.top = Math.max(4, Math.min(y + 12, window.innerHeight - box.offsetHeight - 8)) + "px";
  };
  const hide = () => document.body.classList.remove("pointing");

  for (const { svg } of charts) {
    svg.addEventListener("pointermove", (event) => {
      const frame = svg.getBoundingClientRect();
      const x = ((event.clientX - frame.left) / frame.width) * 1000;
      if (x < LEFT || x > RIGHT) return hide();
      show(((x - LEFT) / (RIGHT - LEFT)) * span, event.clientX, event.clientY);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      const frame = svg.getBoundingClientRect();
      const time = now + (step * span) / 100;
      const x = (LEFT + (Math.min(Math.max(time, 0), span) / span) * (RIGHT - LEFT)) / 1000;
      show(time, frame.left + x * frame.width, frame.top);
    });
  }
})();
