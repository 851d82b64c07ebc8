//! What the library logs, on standard error under `-vv`.

use log::{LevelFilter, Log, Metadata, Record};

use super::report;

struct StandardError;

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("notapipe")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            report::note(&record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Has all of it told from now on.
pub fn tell() {
    if log::set_logger(&StandardError).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}
