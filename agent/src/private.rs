//! Files and folders that nobody else looks into.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

/// Makes a folder, and those above it, for this user alone. What is there stays as it is.
///
/// # Errors
/// What the system says.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Makes a file for this user alone, to be written; fails when there is one.
///
/// # Errors
/// What the system says.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn what_is_made_is_for_this_user_alone_and_what_is_there_stays() {
        let folder = crate::testing::folder("private").join("deep").join("er");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;

        make_folder(&folder).unwrap();
        create(&folder.join("file")).unwrap();

        assert_eq!((mode(folder.parent().unwrap()), mode(&folder), mode(&folder.join("file"))), (0o700, 0o700, 0o600));
        assert_eq!(create(&folder.join("file")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        make_folder(&folder).unwrap();
        assert_eq!(mode(&folder), 0o750);
        make_folder(Path::new("")).unwrap();
    }
}
