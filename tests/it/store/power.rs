//! A power cut: the disk of a writing process is copied at one instant, and opened as it stood then.
//!
//! The disk is an ext4 image on a loop device. A copy counts only if the device wrote nothing meanwhile. This needs
//! root, `losetup`, `mkfs.ext4` and `mount`; where one is missing the test says so and passes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::facts::{Dice, count};
use super::kill::{Worker, check};

/// Bytes of the image.
const IMAGE_BYTES: u64 = 256 * 1024 * 1024;
/// How often a copy is tried again because the device wrote meanwhile.
const COPIES_MAX: u32 = 40;

/// A file system in a file, mounted until it is dropped.
struct Disk {
    device: String,
    mount: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Mounts an image. An error says what this machine doesn't allow.
    fn mount(image: &Path, mount: PathBuf) -> Result<Self, String> {
        std::fs::create_dir_all(&mount).map_err(|error| error.to_string())?;
        let device = run("losetup", &["--find", "--show", &text(image)])?.trim().to_owned();
        let mut disk = Self { device, mount, mounted: false };
        run("mount", &["-t", "ext4", &disk.device, &text(&disk.mount)])?;
        disk.mounted = true;
        Ok(disk)
    }

    /// Writes that the device has been asked for and has done, and those under way.
    fn writes(&self) -> Option<(String, String)> {
        let name = self.device.rsplit('/').next()?;
        let stat = std::fs::read_to_string(format!("/sys/block/{name}/stat")).ok()?;
        let fields: Vec<&str> = stat.split_whitespace().collect();
        Some(((*fields.get(4)?).to_owned(), (*fields.get(8)?).to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            drop(run("umount", &[&text(&self.mount)]));
        }
        drop(run("losetup", &["--detach", &self.device]));
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("`{program}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`{program} {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

fn make(folder: &Path) -> Result<Disk, String> {
    let image = folder.join("image");
    let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
    file.set_len(IMAGE_BYTES).map_err(|error| error.to_string())?;
    run("mkfs.ext4", &["-q", "-F", &text(&image)])?;
    Disk::mount(&image, folder.join("disk"))
}

/// Copies the image at an instant at which its device is quiet.
fn copy(disk: &Disk, folder: &Path) -> bool {
    for _ in 0..COPIES_MAX {
        let before = disk.writes();
        let copied = run("cp", &["--sparse=always", &text(&folder.join("image")), &text(&folder.join("copy"))]);
        let quiet = before.as_ref().is_some_and(|(_, under_way)| under_way == "0");
        if copied.is_ok() && quiet && before == disk.writes() {
            return true;
        }
    }
    false
}

/// Waits until every thread of a process has stopped.
fn stop(pid: u32) {
    run("kill", &["-STOP", &pid.to_string()]).expect("it stops");
    let stopped = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        })
    };
    for _ in 0..500 {
        if stopped() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn after_a_power_cut_nothing_acknowledged_is_lost() {
    let cuts = count("PLIMSOLL_TEST_CUTS", 2);
    let mut dice = Dice(u64::from(std::process::id()));
    let (mut counted, mut acknowledged) = (0, 0);
    for _ in 0..cuts {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = match make(folder.path()) {
            Ok(disk) => disk,
            Err(why) => {
                println!("skipped: no power cut on this machine: {why}");
                return;
            }
        };
        let worker = Worker::start(&disk.mount.join("store"));
        std::thread::sleep(Duration::from_millis(400 + dice.roll(1_200)));
        stop(worker.child.id());
        let copied = copy(&disk, folder.path());
        let acks = worker.kill();
        drop(disk);
        if !copied {
            continue;
        }
        let after = Disk::mount(&folder.path().join("copy"), folder.path().join("after")).expect("the journal replays");
        check(&after.mount.join("store"), &acks);
        (counted, acknowledged) = (counted + 1, acknowledged + acks.len());
    }
    println!("{counted} power cuts, {acknowledged} runs with acknowledged events, none lost");
}
