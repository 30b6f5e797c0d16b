//! `loadgen schema`: the published JSON Schema of what a run writes.

use clap::{Args, ValueEnum};

use super::{CommandError, summary};
use crate::export::schema::{Document, schema};

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// What is described.
    #[arg(value_enum, default_value = "load")]
    document: DocumentArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DocumentArg {
    /// load.json: what was asked for and what came back.
    Load,
    /// manifest.json: who ran what, where.
    Manifest,
    /// One line of the stream of intervals.
    Stream,
}

pub(super) fn print(args: &SchemaArgs) -> Result<u8, CommandError> {
    let document = match args.document {
        DocumentArg::Load => Document::Load,
        DocumentArg::Manifest => Document::Manifest,
        DocumentArg::Stream => Document::Stream,
    };
    summary::print(&format!("{:#}\n", schema(document)))?;
    Ok(0)
}
