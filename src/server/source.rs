//! Which routes are read: the file that was named, the one at the default path, or the built-in one.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::{self, Faults, Loaded, Surroundings};

/// Where the routes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// What ships inside the binary, because nothing was named and `default` does not exist.
    Embedded {
        /// The file that would have been read.
        default: PathBuf,
    },
}

impl Source {
    /// The file that was `named`, else the one at `default`, else what is built in.
    pub fn choose(named: Option<&Path>, default: &Path) -> Self {
        match named {
            Some(path) => Self::File(path.to_owned()),
            // A file that exists and cannot be read is a fault, not a reason to serve something else.
            None if default.symlink_metadata().is_ok() => Self::File(default.to_owned()),
            None => Self::Embedded { default: default.to_owned() },
        }
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// Every fault of the file at once.
    pub fn load(&self, around: &Surroundings) -> Result<Loaded, Faults> {
        match self {
            Self::File(path) => config::load(path, around),
            Self::Embedded { .. } => config::check(config::EMBEDDED_ROUTES, &self.to_string(), around),
        }
    }

    /// The file to watch.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Embedded { default: path } => path,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Embedded { .. } => f.write_str("(built-in routes.yaml)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_file_serves_only_where_nothing_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let default = folder.path().join("routes.yaml");
        assert_eq!(Source::choose(None, &default), Source::Embedded { default: default.clone() });
        assert_eq!(Source::choose(Some(&default), &default), Source::File(default.clone()));
        std::fs::write(&default, "version: 1\n").unwrap();
        assert_eq!(Source::choose(None, &default), Source::File(default));
    }

    #[test]
    fn the_built_in_file_is_valid() {
        let source = Source::Embedded { default: "routes.yaml".into() };
        let loaded = source.load(&Surroundings::offline()).unwrap();
        assert!(loaded.warnings.is_empty() && loaded.snapshot.generated_key.is_some());
    }
}
