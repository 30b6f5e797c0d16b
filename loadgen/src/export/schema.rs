//! The published JSON Schema (draft 2020-12) of what a run writes as JSON.
//!
//! Promises: derived from the types that write and read the files, so that the schema is never another one than theirs;
//! what a reader ignores (fields that it does not know) the schema allows.

use reports::record::{Load, Manifest, Operation, OutcomeKind, SCHEMA_VERSION};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::ndjson::Line;

/// What a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// `load.json`
    Load,
    /// `manifest.json`
    Manifest,
    /// One line of the stream of intervals ([`super::ndjson`]).
    Stream,
}

/// The schema of a document.
pub fn schema(document: Document) -> Value {
    let (name, mut schema) = match document {
        Document::Load => ("load", generate::<Load>()),
        Document::Manifest => ("manifest", generate::<Manifest>()),
        Document::Stream => ("stream", generate_for_writing::<Line<'static>>()),
    };
    schema.insert(
        "$id".into(),
        Value::String(format!("urn:whitewater:schema:{name}:{SCHEMA_VERSION}")),
    );
    let mut schema = schema.to_value();
    if document == Document::Load {
        name_keys(&mut schema);
    }
    schema
}

/// Says which keys the maps of `load.json` have, which the derived schema leaves open.
fn name_keys(schema: &mut Value) {
    // What records called a get and a put in the first records of this schema version.
    const ALIASES: [&str; 2] = ["read", "write"];
    let operations: Vec<&str> = Operation::ALL
        .map(Operation::as_str)
        .into_iter()
        .chain(ALIASES)
        .collect();
    let outcomes = OutcomeKind::ALL.map(OutcomeKind::as_str);
    schema["properties"]["operations"]["propertyNames"] = json!({ "enum": operations });
    schema["$defs"]["OperationLoad"]["properties"]["outcomes"]["propertyNames"] = json!({ "enum": outcomes });
}

/// What a reader takes: fields with a default may be missing, as in records of older tools.
fn generate<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>()
}

/// What a writer gives.
fn generate_for_writing<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
}
