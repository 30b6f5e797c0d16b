//! The token of a cluster: a secret that whoever changes the cluster, or acts as one of its nodes, has to bring along. It
//! travels as the metadata `authorization: Bearer <token>`, and is never written to a log.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

const KEY: &str = "authorization";

/// One line of visible ASCII characters.
#[derive(Clone)]
pub(crate) struct Token(String);

/// What is wrong with the token of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadToken {
    /// There is none.
    Missing,
    /// It is another one.
    Wrong,
}

impl Token {
    /// Reads the token in a file; nobody but the owner and the group may.
    pub(crate) fn read(file: &Path) -> Result<Token, String> {
        let failed = |error: std::io::Error| format!("cannot read the token in {}: {error}", file.display());
        let mode = fs::metadata(file).map_err(failed)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(format!(
                "everybody may read the token in {}; `chmod 600` it",
                file.display()
            ));
        }
        let text = fs::read_to_string(file).map_err(failed)?;
        let token = text.trim();
        let sensible = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        match sensible {
            true => Ok(Token(token.to_owned())),
            false => Err(format!(
                "{} holds no token: one line of visible ASCII characters",
                file.display()
            )),
        }
    }

    /// Adds it to a call.
    pub(crate) fn attach(&self, metadata: &mut MetadataMap) {
        let value = format!("Bearer {}", self.0).parse::<MetadataValue<Ascii>>();
        let mut value = value.expect("visible characters may be sent");
        value.set_sensitive(true);
        metadata.insert(KEY, value);
    }

    /// Whether a call brings this token.
    pub(crate) fn check(&self, metadata: &MetadataMap) -> Result<(), BadToken> {
        let given = metadata.get(KEY).and_then(|value| value.to_str().ok());
        match given.and_then(|value| value.strip_prefix("Bearer ")) {
            None => Err(BadToken::Missing),
            Some(given) if same(given, &self.0) => Ok(()),
            Some(_) => Err(BadToken::Wrong),
        }
    }
}

/// Compares in the same time wherever the two differ.
fn same(given: &str, token: &str) -> bool {
    let bytes = given.bytes().zip(token.bytes());
    let differences = bytes.fold(0, |differences, (one, other)| differences | (one ^ other));
    given.len() == token.len() && differences == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_token_is_compared_whole() {
        assert!(same("secret", "secret"));
        for wrong in ["", "secre", "secrets", "Secret", "tecret"] {
            assert!(!same(wrong, "secret"), "{wrong:?}");
        }
    }

    #[test]
    fn a_call_brings_the_token_that_was_attached_to_it() {
        let token = |text: &str| Token(text.to_owned());
        let mut metadata = MetadataMap::new();
        assert_eq!(token("secret").check(&metadata), Err(BadToken::Missing));
        token("secret").attach(&mut metadata);
        assert_eq!(token("secret").check(&metadata), Ok(()));
        assert_eq!(token("wrong").check(&metadata), Err(BadToken::Wrong));
        assert!(!format!("{metadata:?}").contains("secret"), "not for logs");
    }

    #[test]
    fn a_token_that_everybody_can_read_or_nobody_can_type_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let write = |text: &str, mode| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            Token::read(&file).map(|token| token.0)
        };
        assert_eq!(write("secret\n", 0o600), Ok("secret".to_owned()));
        assert!(write("secret\n", 0o644).unwrap_err().contains("chmod 600"));
        for text in ["", "\n", "two words", "gr\u{fc}n"] {
            assert!(
                write(text, 0o600).unwrap_err().contains("holds no token"),
                "{text:?}"
            );
        }
        let none = Token::read(&dir.path().join("none")).map(|token| token.0);
        assert!(none.unwrap_err().contains("cannot read"));
    }
}
