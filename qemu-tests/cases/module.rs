// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading the module.

use anyhow::ensure;
use anyhow::Result;
use qemu_tests::agents::MODULE;
use qemu_tests::case::skip;
use qemu_tests::Case;
use qemu_tests::Cluster;

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new(
        "the module loads into the stock kernel, unloads, and loads again",
        load,
    )]
}

fn load(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(0);
    if !guest.run(&format!("[ -f {MODULE} ]"))?.success() {
        return skip("pmig.ko is not built");
    }
    for _ in 0..3 {
        guest.run_ok(&format!("insmod {MODULE}"))?;
        ensure!(guest.run_ok("cat /sys/module/pmig/initstate")? == "live");
        guest.run_ok("rmmod pmig")?;
    }
    Ok(())
}
