//! Compiles every `proto/*.proto` with protox (no `protoc` needed) and keeps the descriptor set for reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    // The folder, not the files: a new .proto must trigger a rebuild too.
    println!("cargo:rerun-if-changed=proto");
    let mut files: Vec<PathBuf> = fs::read_dir("proto")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();

    let descriptors = protox::compile(&files, ["proto"])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out_dir.join("descriptors.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    // `bytes` fields become `Bytes`: a decoded payload is a slice of the receive buffer, not a copy.
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::ModestCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
