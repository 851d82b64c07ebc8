//! Outputs that are missing: which, the nearest names, and what the tools made instead.

use std::collections::HashSet;
use std::fmt;

use super::tree_reader::{Found, find, made, walk};
use crate::glob::Glob;
use crate::store::{Kind, PATH_MAX, Text, Tree, TreePath};
use crate::text;

/// Outputs that are not in the tree.
///
/// Its message names them, the nearest names, and what the tools did make:
/// `no output "game.gb"; did you mean "Game.gb"? The tools made: Game.gb, Game.map`.
///
/// # Examples
///
/// ```
/// use notapipe::collect::MissingOutputs;
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
/// let before = tree.fork();
/// Stage::new(&mut tree, Owner { uid: 0, gid: 0 }, now).bytes(&TreePath::parse("Game.gb")?, "rom")?;
///
/// let missing = MissingOutputs::check(&tree, &before, [&TreePath::parse("game.gb")?]).unwrap_err();
/// assert_eq!(missing.missing[0].nearest, Some(TreePath::parse("Game.gb")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingOutputs {
    /// Each that is missing, in the order in which they were asked for.
    pub missing: Vec<Missing>,
    /// Every file that is new or changed.
    pub made: Vec<TreePath>,
}

/// One output that is not in the tree; of [`MissingOutputs`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// What was asked for.
    pub name: TreePath,
    /// A file that is there and was perhaps meant.
    pub nearest: Option<TreePath>,
}

impl MissingOutputs {
    /// Checks that all `names` lead to something in `tree`.
    ///
    /// `before` is a fork of `tree` from before the tools ran; it tells what they made.
    ///
    /// # Errors
    ///
    /// `Self`, when some are missing.
    pub fn check<'n>(
        tree: &Tree,
        before: &Tree,
        names: impl IntoIterator<Item = &'n TreePath>,
    ) -> Result<(), Self> {
        let absent =
            |name: &&TreePath| matches!(find(tree, name), Err(error) if error.is_absence());
        let absent: Vec<&TreePath> = names.into_iter().filter(absent).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let made = made_paths(before, tree);
        let all = walk(tree, &TreePath::root()).unwrap_or_default();
        let missing = absent
            .into_iter()
            .map(|name| Missing {
                name: name.clone(),
                nearest: nearest(name, &all, &made),
            })
            .collect();
        Err(Self { missing, made })
    }
}

impl std::error::Error for MissingOutputs {}

impl fmt::Display for MissingOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut end = "; the";
        match &self.missing[..] {
            [Missing { name, nearest }] => {
                write!(f, "no output {name:?}")?;
                if let Some(nearest) = nearest {
                    write!(f, "; did you mean {nearest:?}?")?;
                    end = " The";
                }
            }
            several => {
                let told = |Missing { name, nearest }: &Missing| match nearest {
                    Some(nearest) => format!("{name:?} (did you mean {nearest:?}?)"),
                    None => format!("{name:?}"),
                };
                write!(f, "no outputs {}", text::list(several.iter().map(told)))?;
            }
        }
        write!(f, "{end} tools made{}", List(&self.made))
    }
}

/// A pattern that matches nothing in the tree.
///
/// Its message is `no output matches "build/*.gb"; did you mean "out/game.gb"? The tools made: out/game.gb`.
///
/// # Examples
///
/// ```
/// let error = notapipe::Job::new()
///     .step(["touch", "a.gbc"])
///     .output_matching("build/*.gb")
///     .run()
///     .unwrap_err();
/// let told = r#"no output matches "build/*.gb"; the tools made: a.gbc"#;
/// assert_eq!(error.to_string(), told);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoMatch {
    /// The pattern.
    pub glob: Glob,
    /// A file that would match in another directory, or in other case.
    pub nearest: Option<TreePath>,
    /// Every file that is new or changed.
    pub made: Vec<TreePath>,
}

impl std::error::Error for NoMatch {}

impl fmt::Display for NoMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no output matches {:?}", self.glob)?;
        let end = match &self.nearest {
            Some(nearest) => {
                write!(f, "; did you mean {nearest:?}?")?;
                " The"
            }
            None => "; the",
        };
        write!(f, "{end} tools made{}", List(&self.made))
    }
}

/// Why nothing matches.
pub(super) fn no_match(glob: &Glob, tree: &Tree, before: &Tree) -> Box<NoMatch> {
    let made = made_paths(before, tree);
    let all = walk(tree, &TreePath::root()).unwrap_or_default();
    let nearly = glob.nearly();
    let new: HashSet<&TreePath> = made.iter().collect();
    let mut text = Text::default();
    let near = all
        .iter()
        // What no program can reach by one path is not what was meant.
        .filter(|found| found.attr.kind != Kind::Directory && found.path.byte_len() <= PATH_MAX)
        .filter_map(|found| {
            Some((
                nearly(text.set(&found.path))?,
                !new.contains(&found.path),
                &found.path,
            ))
        })
        .min();
    let nearest = match near {
        Some((_, _, path)) => Some(path.clone()),
        // Read as a name, it may be a slip of the keys.
        None => TreePath::parse(glob.as_str())
            .ok()
            .and_then(|name| nearest(&name, &all, &made)),
    };
    Box::new(NoMatch {
        glob: glob.clone(),
        nearest,
        made,
    })
}

fn made_paths(before: &Tree, tree: &Tree) -> Vec<TreePath> {
    let found = made(before, tree).into_iter();
    found.map(|found| found.path).collect()
}

/// What the tools made, in a message.
struct List<'l>(&'l [TreePath]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(" no files");
        }
        let paths = self.0.iter().map(TreePath::to_path_buf);
        write!(
            f,
            ": {}",
            text::list(paths.map(|it| text::shown(&it).to_string()))
        )
    }
}

/// The file that was most likely meant: other case, another directory, or a slip of the keys.
fn nearest(name: &TreePath, all: &[Found], made: &[TreePath]) -> Option<TreePath> {
    let wanted = String::from_utf8_lossy(&name.to_bytes()).to_lowercase();
    let wanted_base = base(name);
    let made: HashSet<&TreePath> = made.iter().collect();
    let mut text = Text::default();
    all.iter()
        .filter(|found| found.attr.kind != Kind::Directory)
        .filter_map(|found| {
            // So much longer, it is another name whatever its letters are.
            let is_long = found.path.byte_len() > 4 * name.byte_len();
            let mut there = || String::from_utf8_lossy(text.set(&found.path)).to_lowercase();
            let distance = match base(&found.path) == wanted_base {
                true => usize::from(is_long || there() != wanted),
                false if is_long => return None,
                false => strsim::osa_distance(&wanted, &there()),
            };
            let near = distance <= 1.max(wanted.chars().count() / 3);
            let strange = wanted.chars().count() <= distance;
            (near && !strange).then(|| (distance, !made.contains(&found.path), &found.path))
        })
        .min()
        .map(|(_, _, path)| path.clone())
}

fn base(path: &TreePath) -> String {
    let name: TreePath = path.file_name().cloned().into_iter().collect();
    name.to_string().to_lowercase()
}
