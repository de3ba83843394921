//! The images, as Kubernetes would run them.

use std::process::Command;

use harness::{folder, program};

/// How `scripts/image-test` ends where no container runs, as in many a container.
const CANNOT_BE_TRIED: i32 = 77;

#[test]
fn both_images_are_built_and_sessions_run_between_them() {
    let mut script = Command::new(folder().join("../scripts/image-test"));
    let status = script.env("IMAGE_TEST_BINARY", program()).status().unwrap();
    if status.code() == Some(CANNOT_BE_TRIED) {
        eprintln!("not tried: no container runs on this machine");
        return;
    }
    assert!(status.success(), "{status}");
}
