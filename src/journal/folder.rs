//! Folders that are still there after a power cut.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Makes `folder`, and those above it that are missing, for its owner only, and syncs the names of what it made. Without
/// that a file may be safe and the folder it lies in gone.
///
/// # Errors
/// When the file system refuses.
pub fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut made: Vec<PathBuf> = Vec::new();
    for ancestor in folder.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        if fs::exists(ancestor)? {
            break;
        }
        made.push(ancestor.to_owned());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for folder in made.iter().rev() {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_missing_is_made_for_the_owner_only_and_what_is_there_is_left() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b/c");
        create_private_folder(&folder).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&root.path().join("a"))), (0o700, 0o700));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        create_private_folder(&folder).unwrap();
        assert_eq!(mode(&folder), 0o750);
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(create_private_folder(&file.join("below")).is_err());
        assert!(create_private_folder(&file).is_err());
    }
}
