//! Which device files are on, and of what kind it is.

use std::path::Path;

use super::root::FileIdentity;

/// A device that files are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Device {
    /// The system's number for it.
    pub number: u64,
    /// Whether reading here and there is slower on it than reading in order; also if that is not known.
    pub seeks: bool,
}

impl Device {
    /// The one that something is on, or will be on once it is made; blocks.
    pub(crate) fn of(path: &Path) -> Option<Device> {
        // A relative path begins with one that is empty, which stands for the folder that we are in.
        let there = path.ancestors().find_map(|path| {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            FileIdentity::at(path).ok()
        });
        there.map(|found| Device { number: found.dev(), seeks: device_seeks(found.dev()) })
    }
}

/// Whether reading here and there is slower on this device than reading in order; also if that is not known. Many virtual disks say so,
/// though they are not.
#[cfg(target_os = "linux")]
fn device_seeks(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    // A partition has its disk's folder around it.
    let flag = |path: &str| {
        std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{path}queue/rotational")).ok()
    };
    flag("").or_else(|| flag("../")).is_none_or(|flag| flag.trim() != "0")
}

/// Whether reading here and there is slower on this device than reading in order: that is not known here.
#[cfg(not(target_os = "linux"))]
fn device_seeks(_: u64) -> bool {
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_is_on_the_device_of_the_folder_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let here = Device::of(folder.path()).unwrap();
        assert_eq!(here.number, FileIdentity::at(folder.path()).unwrap().dev());
        assert_eq!(Device::of(&folder.path().join("new/deep")), Some(here));
        assert!(Device::of(Path::new("no such folder/below")).is_some());
        assert_ne!(Device::of(Path::new("/proc/self")).unwrap().number, here.number);
        assert!(device_seeks(u64::MAX), "nobody knows");
    }
}
