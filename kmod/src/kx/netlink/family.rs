// SPDX-License-Identifier: GPL-2.0

//! The family itself.

use super::dump;
use super::Handler;
use super::Request;
use crate::kx::deferred;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr;
use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::c_int;
use kernel::ffi::c_ulong;
use kernel::ffi::c_void;
use kernel::prelude::*;
use pmig_wire::netlink::Attribute;
use pmig_wire::netlink::Command;
use pmig_wire::netlink::EVENTS;
use pmig_wire::netlink::FAMILY;
use pmig_wire::netlink::VERSION;

/// The family. It is written once, by its registration, before anything reads it.
struct FamilyState(UnsafeCell<MaybeUninit<bindings::genl_family>>);

// SAFETY: Written only by `Registration::new`, which runs once, before the family is known to anybody.
unsafe impl Sync for FamilyState {}

static FAMILY_STATE: FamilyState = FamilyState(UnsafeCell::new(MaybeUninit::zeroed()));

impl FamilyState {
    fn raw(&self) -> *mut bindings::genl_family {
        self.0.get().cast()
    }
}

/// The family, for calls that want to know it.
pub(super) fn raw() -> *mut bindings::genl_family {
    FAMILY_STATE.raw()
}

const OPS: usize = Command::ALL.len() - 1;

struct Tables {
    ops: UnsafeCell<[MaybeUninit<bindings::genl_ops>; OPS]>,
    policy: UnsafeCell<[MaybeUninit<bindings::nla_policy>; Attribute::MAX as usize + 1]>,
    group: UnsafeCell<MaybeUninit<bindings::genl_multicast_group>>,
}

// SAFETY: As for `FamilyState`.
unsafe impl Sync for Tables {}

static TABLES: Tables = Tables {
    ops: UnsafeCell::new([const { MaybeUninit::zeroed() }; OPS]),
    policy: UnsafeCell::new([const { MaybeUninit::zeroed() }; Attribute::MAX as usize + 1]),
    group: UnsafeCell::new(MaybeUninit::zeroed()),
};

/// Whether a command is a dump.
fn is_dump(command: Command) -> bool {
    matches!(
        command,
        Command::Survey | Command::Capture | Command::Status
    )
}

/// Type and length of an attribute's payload for the policy: exact for numbers, the most for the rest.
fn policy_of(attribute: u16) -> (u32, u16) {
    const U8: u32 = bindings::NLA_U8;
    const U32: u32 = bindings::NLA_U32;
    const U64: u32 = bindings::NLA_U64;
    const BINARY: u32 = bindings::NLA_BINARY;
    match attribute {
        x if x == Attribute::Role as u16 || x == Attribute::State as u16 => (U8, 0),
        x if x == Attribute::Owned as u16 => (U8, 0),
        x if x == Attribute::Migration as u16 => (BINARY, 16),
        x if x == Attribute::Records as u16 || x == Attribute::Ranges as u16 => (BINARY, u16::MAX),
        x if x == Attribute::Last as u16 => (bindings::NLA_FLAG, 0),
        x if x == Attribute::Pages as u16
            || x == Attribute::ZeroPages as u16
            || x == Attribute::Bytes as u16
            || x == Attribute::StubStart as u16
            || x == Attribute::StubEnd as u16 =>
        {
            (U64, 0)
        }
        x if x == Attribute::Release as u16 || x == Attribute::ModuleVersion as u16 => (BINARY, 64),
        _ => (U32, 0),
    }
}

/// Hands a request to the handler.
///
/// # Safety
///
/// Only for generic netlink, with a message and what it has parsed of it.
unsafe extern "C" fn doit<H: Handler>(
    skb: *mut bindings::sk_buff,
    info: *mut bindings::genl_info,
) -> c_int {
    // SAFETY: Generic netlink calls this with a request that it has parsed.
    let (info, number) = unsafe { (&*info, (*(*info).genlhdr).cmd) };
    let Some(command) = Command::from_wire(number) else {
        return EOPNOTSUPP.to_errno();
    };
    let request = Request::new(info, skb, command);
    let result = match request.is_allowed() {
        true => H::request(&request),
        false => Err(EPERM.into()),
    };
    let result = match result {
        Ok(None) => return 0,
        // SAFETY: The message is the one that is being handled, and `info` was parsed from it.
        Ok(Some(job)) => unsafe { deferred::defer::<H>(job, request.asker(), skb, info.nlhdr) },
        Err(failure) => Err(failure),
    };
    match result {
        // Netlink sends no acknowledgement for this one (netlink_rcv_skb): the deferred work does, when it is done.
        Ok(()) => EINTR.to_errno(),
        Err(failure) => request.report(&failure),
    }
}

/// Hears of netlink sockets that are closed.
///
/// # Safety
///
/// Only for the netlink notifier chain.
unsafe extern "C" fn notified<H: Handler>(
    _block: *mut bindings::notifier_block,
    event: c_ulong,
    data: *mut c_void,
) -> c_int {
    if event == bindings::NETLINK_URELEASE as c_ulong {
        // SAFETY: The event comes with a netlink_notify (net/netlink/af_netlink.c).
        let notify = unsafe { &*data.cast::<bindings::netlink_notify>() };
        // The family lives in the initial network namespace only.
        let is_ours = notify.protocol == bindings::NETLINK_GENERIC as c_int
            && ptr::eq(notify.net, ptr::addr_of!(bindings::init_net));
        if is_ours {
            H::closed(notify.portid);
        }
    }
    bindings::NOTIFY_DONE as c_int
}

/// The family is known as long as this lives.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration {
    #[pin]
    notifier: UnsafeCell<bindings::notifier_block>,
}

// SAFETY: The notifier block is only touched by the kernel between registration and drop.
unsafe impl Sync for Registration {}
// SAFETY: As above.
unsafe impl Send for Registration {}

impl Registration {
    /// Registers the family. May be called once.
    pub(crate) fn new<H: Handler>(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            notifier: UnsafeCell::new(bindings::notifier_block {
                notifier_call: Some(notified::<H>),
                next: ptr::null_mut(),
                priority: 0,
            }),
            _: {
                // SAFETY: Nobody knows the tables yet, and this runs once. The notifier stays where it is until it is
                // unregistered.
                unsafe {
                    write_tables::<H>(module);
                    let notifier = (*this.as_ptr()).notifier.get();
                    to_result(bindings::netlink_register_notifier(notifier))?;
                    let result = to_result(bindings::genl_register_family(FAMILY_STATE.raw()));
                    if let Err(error) = result {
                        bindings::netlink_unregister_notifier(notifier);
                        return Err(error);
                    }
                }
            },
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Registration {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by `new`. No request runs after the family is gone (net/netlink/genetlink.c).
        unsafe {
            bindings::genl_unregister_family(FAMILY_STATE.raw());
            bindings::netlink_unregister_notifier(self.notifier.get());
        }
    }
}

/// Fills in family, operations and policy.
///
/// # Safety
///
/// Nothing else may use the tables yet.
unsafe fn write_tables<H: Handler>(module: &'static ThisModule) {
    // SAFETY: As the caller says. Zeroes are valid for all of these structures.
    unsafe {
        let policy = TABLES.policy.get().cast::<bindings::nla_policy>();
        for number in 1..=Attribute::MAX {
            let (kind, length) = policy_of(number);
            (*policy.add(usize::from(number))).type_ = kind as u8;
            (*policy.add(usize::from(number))).len = length;
        }
        let ops = TABLES.ops.get().cast::<bindings::genl_ops>();
        let commands = Command::ALL
            .into_iter()
            .filter(|command| *command != Command::Event);
        for (index, command) in commands.enumerate() {
            let op = ops.add(index);
            (*op).cmd = command as u8;
            if is_dump(command) {
                (*op).start = Some(dump::start::<H>);
                (*op).dumpit = Some(dump::dumpit);
                (*op).done = Some(dump::done);
            } else {
                (*op).doit = Some(doit::<H>);
            }
        }
        let group = TABLES.group.get().cast::<bindings::genl_multicast_group>();
        for (to, from) in (*group).name.iter_mut().zip(EVENTS.bytes()) {
            *to = from;
        }
        // GENL_MCAST_CAP_SYS_ADMIN: who may not ask may not listen (include/net/genetlink.h).
        (*group).flags = 1 << 1;
        let family = FAMILY_STATE.raw();
        for (to, from) in (*family).name.iter_mut().zip(FAMILY.bytes()) {
            *to = from;
        }
        (*family).version = u32::from(VERSION);
        (*family).maxattr = u32::from(Attribute::MAX);
        (*family).policy = policy;
        (*family).ops = ops;
        (*family).n_ops = OPS as u8;
        (*family).mcgrps = group;
        (*family).n_mcgrps = 1;
        (*family).resv_start_op = Command::Adopt as u8 + 1;
        // Requests of different agents, and streams of one, run side by side.
        (*family).set_parallel_ops(1);
        (*family).module = module.as_ptr();
    }
}
