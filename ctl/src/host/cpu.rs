// SPDX-License-Identifier: GPL-2.0
//! The CPU as programs see it.

use raw_cpuid::cpuid;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeSet;

/// What a program can find out about the CPU and rely on from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuFacts {
    /// Vendor, as CPUID says it.
    pub vendor: String,
    /// Model, as CPUID says it.
    pub model: String,
    /// Features that programs can use, by their names in `/proc/cpuinfo`.
    pub features: BTreeSet<String>,
    /// Register state that the CPU can save (the bits of XCR0), as CPUID leaf 0xD says it.
    pub xcr0: u64,
    /// Bytes of the register state that is in use on this host.
    pub xstate_size: u32,
}

impl CpuFacts {
    /// The CPU of this host. `cpuinfo` is the text of `/proc/cpuinfo`.
    pub fn read(cpuinfo: &str) -> Self {
        let state = cpuid!(0xd, 0);
        Self {
            vendor: field(cpuinfo, "vendor_id").unwrap_or_default().to_owned(),
            model: field(cpuinfo, "model name").unwrap_or_default().to_owned(),
            features: features(cpuinfo),
            xcr0: u64::from(state.edx) << 32 | u64::from(state.eax),
            xstate_size: state.ebx,
        }
    }
}

fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// The features that every CPU of the host has, without those that only the kernel can use or see.
fn features(cpuinfo: &str) -> BTreeSet<String> {
    let mut common: Option<BTreeSet<&str>> = None;
    for line in cpuinfo.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        if key.trim() != "flags" {
            continue;
        }
        let own: BTreeSet<&str> = value.split_ascii_whitespace().collect();
        common = Some(match common {
            Some(common) => common.intersection(&own).copied().collect(),
            None => own,
        });
    }
    common
        .unwrap_or_default()
        .into_iter()
        .filter(|feature| !KERNEL_ONLY.contains(feature))
        .map(str::to_owned)
        .collect()
}

/// Flags of `/proc/cpuinfo` that make no difference to a program: what only the kernel can use, what it made up, and
/// properties of the host. A flag that is not known here counts as one that programs use.
const KERNEL_ONLY: &[&str] = &[
    // Basic ones for the kernel.
    "vme",
    "de",
    "pse",
    "msr",
    "pae",
    "mce",
    "apic",
    "mtrr",
    "pge",
    "mca",
    "pat",
    "pse36",
    "pn",
    "dts",
    "acpi",
    "ss",
    "ht",
    "tm",
    "pbe",
    "mp",
    "nx",
    "pdpe1gb",
    // Made up by the kernel, or about time and topology.
    "constant_tsc",
    "art",
    "arch_perfmon",
    "pebs",
    "bts",
    "rep_good",
    "amd_lbr_v2",
    "acc_power",
    "nopl",
    "xtopology",
    "tsc_reliable",
    "nonstop_tsc",
    "cpuid",
    "extd_apicid",
    "amd_dcm",
    "aperfmperf",
    "rapl",
    "nonstop_tsc_s3",
    "tsc_known_freq",
    "hypervisor",
    // Debugging, virtualization, power, machine checks, interrupts.
    "dtes64",
    "monitor",
    "ds_cpl",
    "vmx",
    "smx",
    "est",
    "tm2",
    "cid",
    "sdbg",
    "xtpr",
    "pdcm",
    "pcid",
    "dca",
    "x2apic",
    "tsc_deadline_timer",
    "cmp_legacy",
    "svm",
    "extapic",
    "cr8_legacy",
    "osvw",
    "ibs",
    "skinit",
    "wdt",
    "tce",
    "nodeid_msr",
    "topoext",
    "perfctr_core",
    "perfctr_nb",
    "bpext",
    "ptsc",
    "perfctr_llc",
    "tsc_adjust",
    "cqm",
    "rdt_a",
    "intel_pt",
    "smep",
    "smap",
    "invpcid",
    "xsaves",
    "umip",
    "la57",
    "tme",
    "sgx",
    "sgx_lc",
    "bus_lock_detect",
    "lass",
    "fred",
    "irperf",
    "wbnoinvd",
    "amd_ppin",
    "cppc",
    "brs",
    "lam",
    "pconfig",
    "arch_lbr",
    "ring3mwait",
    "cpuid_fault",
    "cpb",
    "epb",
    "cat_l3",
    "cat_l2",
    "cdp_l3",
    "cdp_l2",
    "tdx_host_platform",
    "hw_pstate",
    "proc_feedback",
    "intel_ppin",
    "mba",
    "perfmon_v2",
    "tpr_shadow",
    "flexpriority",
    "ept",
    "vpid",
    "vmmcall",
    "ept_ad",
    "tdx_guest",
    "cqm_llc",
    "cqm_occup_llc",
    "cqm_mbm_total",
    "cqm_mbm_local",
    "split_lock_detect",
    "dtherm",
    "ida",
    "arat",
    "pln",
    "pts",
    "hwp",
    "hwp_notify",
    "hwp_act_window",
    "hwp_epp",
    "hwp_pkg_req",
    "hfi",
    "npt",
    "lbrv",
    "svm_lock",
    "nrip_save",
    "tsc_scale",
    "vmcb_clean",
    "flushbyasid",
    "decodeassists",
    "pausefilter",
    "pfthreshold",
    "avic",
    "v_vmsave_vmload",
    "vgif",
    "x2avic",
    "v_spec_ctrl",
    "vnmi",
    "overflow_recov",
    "succor",
    "smca",
    "sme",
    "sev",
    "sev_es",
    "sev_snp",
    "debug_swap",
    "svsm",
    "amd_lbr_pmc_freeze",
    "xsaveerptr",
    // Mitigations.
    "pti",
    "ssbd",
    "ibrs",
    "ibpb",
    "stibp",
    "ibrs_enhanced",
    "virt_ssbd",
    "md_clear",
    "flush_l1d",
    "arch_capabilities",
    "spec_ctrl",
    "core_capabilities",
    "intel_stibp",
    "rtm_always_abort",
    "hybrid_cpu",
];

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_CPUS: &str = "\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: A CPU
flags\t\t: fpu sse2 avx2 vmx hypervisor shiny_new

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: A CPU
flags\t\t: fpu sse2 vmx hypervisor shiny_new
";

    #[test]
    fn features_are_those_of_all_cpus_that_programs_see() {
        let facts = CpuFacts::read(TWO_CPUS);
        let features: Vec<_> = facts.features.iter().map(String::as_str).collect();
        assert_eq!(features, ["fpu", "shiny_new", "sse2"]);
        assert_eq!(facts.vendor, "GenuineIntel");
        assert_eq!(facts.model, "A CPU");
    }

    #[test]
    fn no_kernel_only_flag_is_listed_twice() {
        let set: BTreeSet<_> = KERNEL_ONLY.iter().collect();
        assert_eq!(set.len(), KERNEL_ONLY.len());
    }
}
