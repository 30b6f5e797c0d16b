//! Cutting a link in the three ways a partition can look: silence, refusal, a jam.

use std::fmt;

use super::{FaultProxy, ProxyError, Stream, Toxic, ToxicKind};

/// A jam lasts until it is healed; this is longer than any run.
const JAM_MS: u64 = 3_600_000;

/// How a cut link behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutMode {
    /// Silence: connections stay open and bytes vanish. Healing closes the connections, since bytes were lost.
    Drop,
    /// The listener is gone and connections are closed: the other side learns at once.
    Refuse,
    /// Bytes are held, and healing delivers them in a burst, stale ones included.
    Jam,
}

impl fmt::Display for CutMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::Refuse => "refuse",
            Self::Jam => "jam",
        })
    }
}

impl CutMode {
    /// What a toxic must do to cut one direction this way; nothing for a refusal, which is no toxic.
    pub fn kind(self) -> Option<ToxicKind> {
        match self {
            Self::Drop => Some(ToxicKind::Timeout { timeout_ms: 0 }),
            Self::Jam => Some(ToxicKind::Latency {
                latency_ms: JAM_MS,
                jitter_ms: 0,
            }),
            Self::Refuse => None,
        }
    }

    fn toxic(self, stream: Stream) -> Option<Toxic> {
        Some(Toxic::new(stream, self.kind()?).named(cut_name(stream)))
    }
}

/// Of its own, so that a cut can come on top of a latency or timeout that is already there.
fn cut_name(stream: Stream) -> String {
    format!("cut_{stream}")
}

impl FaultProxy {
    /// Cuts a link in the given directions ([`Stream::BOTH`] for all of it); `Refuse` knows only both.
    ///
    /// If it fails half-way, the half that was done is undone again.
    pub async fn cut(&self, proxy: &str, mode: CutMode, streams: &[Stream]) -> Result<(), ProxyError> {
        if mode == CutMode::Refuse {
            if !Stream::BOTH.iter().all(|stream| streams.contains(stream)) {
                return Err(ProxyError::Invalid {
                    what: format!("link `{proxy}` cannot refuse in one direction only; use drop or jam"),
                });
            }
            return self.set_enabled(proxy, false).await;
        }
        for (done, stream) in streams.iter().enumerate() {
            let Some(toxic) = mode.toxic(*stream) else {
                continue;
            };
            if let Err(error) = self.add_toxic(proxy, toxic).await {
                for stream in &streams[..done] {
                    // The first error is the one to tell.
                    let _ = self.remove_toxic(proxy, &cut_name(*stream)).await;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends whatever cut is on the link, of any mode, and leaves other toxics alone. Healing a whole link is fine.
    pub async fn heal(&self, proxy: &str) -> Result<(), ProxyError> {
        let info = self.proxy(proxy).await?;
        for stream in Stream::BOTH {
            let name = cut_name(stream);
            if info.toxics.iter().any(|toxic| toxic.name == name) {
                self.remove_toxic(proxy, &name).await?;
            }
        }
        if info.enabled {
            Ok(())
        } else {
            self.set_enabled(proxy, true).await
        }
    }
}
