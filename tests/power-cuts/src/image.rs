//! Files and directories: as a graph of inodes, and as a tree of paths.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// An inode: a file or a directory, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub(crate) usize);

/// The directory in which calls are recorded.
pub(crate) const ROOT: Ino = Ino(0);

/// The content of a file.
pub(crate) type Content = Arc<[u8]>;

/// The device and the number of an inode on the real file system.
pub(crate) type RealIno = (u64, u64);

/// The names in every directory and the content of every file, also of those without a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) names: BTreeMap<Ino, BTreeMap<OsString, Ino>>,
    pub(crate) contents: BTreeMap<Ino, Content>,
}

impl Image {
    /// Reads the files and directories in `root`.
    pub(crate) fn scan(root: &Path) -> io::Result<(Self, HashMap<RealIno, Ino>)> {
        let mut image = Self::default();
        let mut known = HashMap::new();
        image.scan_directory(root, &mut known)?;
        Ok((image, known))
    }

    fn scan_directory(&mut self, path: &Path, known: &mut HashMap<RealIno, Ino>) -> io::Result<Ino> {
        let ino = self.add(path, known)?;
        self.names.insert(ino, BTreeMap::new());
        let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let child = if entry.file_type()?.is_dir() {
                self.scan_directory(&path, known)?
            } else {
                let child = self.add(&path, known)?;
                self.contents.insert(child, fs::read(&path)?.into());
                child
            };
            self.names.entry(ino).or_default().insert(entry.file_name(), child);
        }
        Ok(ino)
    }

    fn add(&self, path: &Path, known: &mut HashMap<RealIno, Ino>) -> io::Result<Ino> {
        let metadata = fs::symlink_metadata(path)?;
        let next = Ino(known.len());
        Ok(*known.entry((metadata.dev(), metadata.ino())).or_insert(next))
    }

    pub(crate) fn set_name(&mut self, directory: Ino, name: &OsStr, value: Option<Ino>) {
        let names = self.names.entry(directory).or_default();
        match value {
            Some(ino) => drop(names.insert(name.to_owned(), ino)),
            None => drop(names.remove(name)),
        }
    }

    pub(crate) fn name(&self, directory: Ino, name: &OsStr) -> Option<Ino> {
        self.names.get(&directory)?.get(name).copied()
    }

    pub(crate) fn content(&self, ino: Ino) -> Content {
        self.contents.get(&ino).cloned().unwrap_or_else(|| Arc::from([]))
    }

    /// Returns the inode at `path`, relative to the root.
    pub(crate) fn find(&self, path: &Path) -> Option<Ino> {
        path.iter().try_fold(ROOT, |directory, name| self.name(directory, name))
    }

    /// Returns the files and directories that have a path.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        self.add_to(&mut tree, ROOT, Path::new(""));
        tree
    }

    fn add_to(&self, tree: &mut Tree, directory: Ino, at: &Path) {
        for (name, ino) in self.names.get(&directory).into_iter().flatten() {
            let path = at.join(name);
            if self.names.contains_key(ino) {
                tree.nodes.insert(path.clone(), Node::Directory);
                self.add_to(tree, *ino, &path);
            } else {
                tree.nodes.insert(path, Node::File(*ino, self.content(*ino)));
            }
        }
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Node {
    Directory,
    File(Ino, Content),
}

/// A state of the disk: the files and directories by path.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    /// Creates these files and directories in `root`, which must be empty.
    ///
    /// # Errors
    ///
    /// Those of the system calls.
    pub fn create(&self, root: &Path) -> io::Result<()> {
        let mut first = HashMap::new();
        for (path, node) in &self.nodes {
            let path = root.join(path);
            match node {
                Node::Directory => fs::create_dir(path)?,
                Node::File(ino, content) => match first.get(ino) {
                    Some(other) => fs::hard_link(other, path)?,
                    None => {
                        fs::write(&path, content)?;
                        first.insert(*ino, path);
                    }
                },
            }
        }
        Ok(())
    }

    /// Returns the content of the file at `path`.
    #[must_use]
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        match self.nodes.get(path.as_ref()) {
            Some(Node::File(_, content)) => Some(content),
            _ => None,
        }
    }

    /// Returns whether a file or directory exists at `path`.
    #[must_use]
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.nodes.contains_key(path.as_ref())
    }

    /// Returns whether both have the same paths and contents.
    pub(crate) fn has_same_files(&self, other: &Self) -> bool {
        let same = |((path, mine), (of, other)): ((&PathBuf, &Node), (&PathBuf, &Node))| {
            let nodes = match (mine, other) {
                (Node::File(_, content), Node::File(_, other)) => content == other,
                _ => mine == other,
            };
            nodes && path == of
        };
        self.nodes.len() == other.nodes.len() && self.nodes.iter().zip(&other.nodes).all(same)
    }

    /// Returns the tree without the files and directories below the directories that `hidden` names.
    #[must_use]
    pub fn without(mut self, hidden: &[&str]) -> Self {
        self.nodes.retain(|path, _| {
            !hidden.iter().any(|hidden| path.parent().is_some_and(|at| at.ends_with(hidden)))
        });
        self
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, node) in &self.nodes {
            match node {
                Node::Directory => writeln!(out, "  {}/", path.display())?,
                Node::File(_, content) => {
                    let start = &content[..content.len().min(160)];
                    writeln!(out, "  {} ({}): {}", path.display(), content.len(), start.escape_ascii())?;
                }
            }
        }
        Ok(())
    }
}
