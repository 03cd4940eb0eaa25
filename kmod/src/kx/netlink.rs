// SPDX-License-Identifier: GPL-2.0

//! The generic netlink family: registration, requests, answers and dumps.
//!
//! The `kernel` crate has families and multicast but no requests, so this is on top of the raw calls
//! (include/net/genetlink.h).

use crate::kx::deferred;
use crate::sys;
use core::cell::UnsafeCell;
use core::fmt::Write;
use core::mem::MaybeUninit;
use core::ptr;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::c_int;
use kernel::ffi::c_ulong;
use kernel::ffi::c_void;
use kernel::prelude::*;
use pmig_wire::netlink::Attribute;
use pmig_wire::netlink::Command;
use pmig_wire::netlink::FAMILY;
use pmig_wire::netlink::VERSION;

/// What the module does with requests.
pub(crate) trait Handler {
    /// Work that takes long and is done after netlink has let go of its locks.
    type Job: Send;
    /// Answers a request, or says what is to be done before it is answered.
    fn request(request: &Request<'_>) -> Result<Option<Self::Job>, Failure>;
    /// Does such work. The numbers are the answer.
    fn perform(job: Self::Job) -> Result<[(Attribute, u64); 3], Failure>;
    /// Makes the records that a dump sends.
    fn dump(request: &Request<'_>) -> Result<Dump, Failure>;
    /// The socket with this port ID was closed.
    fn closed(port: u32);
}

/// Why a request failed, in words that netlink's extended acknowledgement carries to the user.
pub(crate) struct Failure {
    errno: Error,
    text: [u8; 80],
    length: usize,
}

impl Write for Failure {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            // The last byte stays zero.
            if self.length.saturating_add(1) < self.text.len() {
                if let Some(place) = self.text.get_mut(self.length) {
                    *place = byte;
                    self.length = self.length.saturating_add(1);
                }
            }
        }
        Ok(())
    }
}

impl Failure {
    /// Puts the words where netlink finds them.
    ///
    /// # Safety
    ///
    /// `extack` must be null or valid, and nobody else may use it.
    pub(super) unsafe fn write_to(&self, extack: *mut bindings::netlink_ext_ack) {
        if self.length == 0 || extack.is_null() {
            return;
        }
        // SAFETY: Valid, as the caller says; the buffer is in it.
        unsafe {
            let buffer = ptr::addr_of_mut!((*extack)._msg_buf).cast::<u8>();
            let length = self.text.len().min(size_of_val(&(*extack)._msg_buf));
            ptr::copy_nonoverlapping(self.text.as_ptr(), buffer, length);
            (*extack)._msg = buffer.cast();
        }
    }

    /// The error number.
    pub(super) fn errno(&self) -> c_int {
        self.errno.to_errno()
    }

    /// A failure with words, which are cut off at 79 bytes.
    pub(crate) fn new(errno: Error, text: core::fmt::Arguments<'_>) -> Self {
        let mut failure = Self {
            errno,
            text: [0; 80],
            length: 0,
        };
        // Writing never fails.
        let _ = failure.write_fmt(text);
        failure
    }
}

impl From<Error> for Failure {
    fn from(errno: Error) -> Self {
        Self {
            errno,
            text: [0; 80],
            length: 0,
        }
    }
}

impl From<kernel::alloc::AllocError> for Failure {
    fn from(_: kernel::alloc::AllocError) -> Self {
        ENOMEM.into()
    }
}

/// A request, with one method for each way to read an attribute.
pub(crate) struct Request<'a> {
    info: &'a bindings::genl_info,
    skb: *mut bindings::sk_buff,
    command: Command,
}

impl Request<'_> {
    /// What is asked for.
    pub(crate) fn command(&self) -> Command {
        self.command
    }

    /// The port ID of the socket that asks.
    pub(crate) fn port(&self) -> u32 {
        self.info.snd_portid
    }

    /// The payload of an attribute, if it is there.
    pub(crate) fn bytes(&self, attribute: Attribute) -> Option<&[u8]> {
        // SAFETY: `attrs` has an entry for each attribute of the family's policy; the message outlives the request; the
        // policy has checked the lengths.
        unsafe {
            let header = NonNull::new(*self.info.attrs.add(attribute as usize))?;
            let length =
                usize::from(header.as_ref().nla_len).saturating_sub(size_of::<bindings::nlattr>());
            let data = header.as_ptr().add(1).cast::<u8>();
            Some(core::slice::from_raw_parts(data, length))
        }
    }

    /// Whether a flag is set.
    pub(crate) fn flag(&self, attribute: Attribute) -> bool {
        self.bytes(attribute).is_some()
    }

    fn need(&self, attribute: Attribute) -> Result<&[u8], Failure> {
        self.bytes(attribute)
            .ok_or_else(|| Failure::new(EINVAL, format_args!("attribute {attribute:?} is missing")))
    }

    /// Bytes that must be there.
    pub(crate) fn blob(&self, attribute: Attribute) -> Result<&[u8], Failure> {
        self.need(attribute)
    }

    /// Exactly `N` bytes that must be there.
    pub(crate) fn array<const N: usize>(&self, attribute: Attribute) -> Result<[u8; N], Failure> {
        self.need(attribute)?.try_into().map_err(|_| {
            Failure::new(
                EINVAL,
                format_args!("attribute {attribute:?} has a wrong length"),
            )
        })
    }

    /// A number that must be there.
    pub(crate) fn u8(&self, attribute: Attribute) -> Result<u8, Failure> {
        Ok(u8::from_ne_bytes(self.array(attribute)?))
    }

    /// A number that must be there.
    pub(crate) fn u32(&self, attribute: Attribute) -> Result<u32, Failure> {
        Ok(u32::from_ne_bytes(self.array(attribute)?))
    }

    /// A number that must be there.
    pub(crate) fn u64(&self, attribute: Attribute) -> Result<u64, Failure> {
        Ok(u64::from_ne_bytes(self.array(attribute)?))
    }

    fn is_allowed(&self) -> bool {
        // SAFETY: The message is the one that is being handled.
        unsafe { bindings::netlink_capable(self.skb, bindings::CAP_SYS_ADMIN as c_int) }
    }

    /// Where the answer goes.
    fn asker(&self) -> Asker {
        Asker {
            port: self.info.snd_portid,
            sequence: self.info.snd_seq,
            command: self.command,
        }
    }

    fn report(&self, failure: &Failure) -> c_int {
        // SAFETY: The extended acknowledgement belongs to the request that is being handled.
        unsafe { failure.write_to(self.info.extack) };
        failure.errno.to_errno()
    }
}

/// Who asked for what.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    port: u32,
    sequence: u32,
    command: Command,
}

/// An answer to a request.
pub(crate) struct Reply {
    skb: NonNull<bindings::sk_buff>,
    header: NonNull<c_void>,
    port: u32,
}

impl Drop for Reply {
    fn drop(&mut self) {
        // SAFETY: Not sent, so still ours.
        unsafe { sys::pmig_consume_skb(self.skb.as_ptr()) };
    }
}

impl Reply {
    /// An empty answer to `request` with room for `size` bytes of attributes.
    pub(crate) fn new(request: &Request<'_>, size: usize) -> Result<Self> {
        Self::to(request.asker(), size)
    }

    /// An empty answer for `asker`.
    pub(super) fn to(asker: Asker, size: usize) -> Result<Self> {
        // SAFETY: Both calls return null if there is no room.
        unsafe {
            let skb = NonNull::new(sys::pmig_genlmsg_new(size)).ok_or(ENOMEM)?;
            let header = bindings::genlmsg_put(
                skb.as_ptr(),
                asker.port,
                asker.sequence,
                FAMILY_STATE.raw(),
                0,
                asker.command as u8,
            );
            match NonNull::new(header) {
                Some(header) => Ok(Self {
                    skb,
                    header,
                    port: asker.port,
                }),
                None => {
                    sys::pmig_consume_skb(skb.as_ptr());
                    Err(EMSGSIZE)
                }
            }
        }
    }

    /// Appends an attribute.
    pub(crate) fn put(self, attribute: Attribute, bytes: &[u8]) -> Result<Self> {
        put(self.skb, attribute, bytes)?;
        Ok(self)
    }

    /// Sends the answer.
    pub(crate) fn send(self) -> Result {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: The message is complete; sending takes it over, whatever comes of it.
        to_result(unsafe {
            sys::pmig_genlmsg_end(this.skb.as_ptr(), this.header.as_ptr());
            sys::pmig_genlmsg_unicast(this.skb.as_ptr(), this.port)
        })
    }
}

fn put(skb: NonNull<bindings::sk_buff>, attribute: Attribute, bytes: &[u8]) -> Result {
    let length = c_int::try_from(bytes.len()).map_err(|_| EMSGSIZE)?;
    // SAFETY: The message is ours; the call checks that there is room.
    to_result(unsafe {
        bindings::nla_put(
            skb.as_ptr(),
            attribute as c_int,
            length,
            bytes.as_ptr().cast(),
        )
    })
}

/// What a dump sends: messages, each of them attributes that are put as they are.
pub(crate) struct Dump {
    bytes: KVVec<u8>,
    /// Where each message's payload ends, and the attributes it is made of.
    parts: Parts,
    sent: usize,
}

/// How the bytes of a dump become messages.
pub(crate) enum Parts {
    /// The bytes are a record stream; each message carries as many whole records as fit.
    Records,
    /// Each element is one message: attributes as (number, length) over the bytes.
    Messages(KVVec<KVec<(Attribute, usize)>>),
}

impl Dump {
    /// A dump of a record stream.
    pub(crate) fn records(bytes: KVVec<u8>) -> Self {
        Self {
            bytes,
            parts: Parts::Records,
            sent: 0,
        }
    }

    /// A dump of messages.
    pub(crate) fn messages(bytes: KVVec<u8>, messages: KVVec<KVec<(Attribute, usize)>>) -> Self {
        Self {
            bytes,
            parts: Parts::Messages(messages),
            sent: 0,
        }
    }
}

/// Bytes of records in one message: with header and alignment it fits into the 16 KiB that a reader offers at first, or
/// into one page frame more if a record is longer.
const MESSAGE_BYTES: usize = 14 * 1024;

/// Room that a dump asks netlink for: the longest record, and its frame.
const DUMP_BYTES: u32 = pmig_wire::record::MAX_PAYLOAD as u32 + 4096;

/// How many bytes of whole records, at least one, make the next message.
fn next_records(bytes: &[u8]) -> usize {
    let mut length = 0;
    for record in pmig_wire::record::Reader::new(bytes).flatten() {
        let with = record.bytes.len().saturating_add(length);
        if length > 0 && with > MESSAGE_BYTES {
            break;
        }
        length = with;
    }
    length
}

struct DumpState {
    dump: Dump,
    offset: usize,
}

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

const OPS: usize = Command::ALL.len() - 1;

struct Tables {
    ops: UnsafeCell<[MaybeUninit<bindings::genl_ops>; OPS]>,
    policy: UnsafeCell<[MaybeUninit<bindings::nla_policy>; Attribute::MAX as usize + 1]>,
}

// SAFETY: As for `FamilyState`.
unsafe impl Sync for Tables {}

static TABLES: Tables = Tables {
    ops: UnsafeCell::new([const { MaybeUninit::zeroed() }; OPS]),
    policy: UnsafeCell::new([const { MaybeUninit::zeroed() }; Attribute::MAX as usize + 1]),
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
    let request = Request { info, skb, command };
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

/// Makes the state of a dump that is about to begin.
///
/// # Safety
///
/// Only for generic netlink, as `genl_ops::start`.
unsafe extern "C" fn start<H: Handler>(cb: *mut bindings::netlink_callback) -> c_int {
    // SAFETY: Generic netlink calls this with a dump that it is about to begin; `args` is ours.
    let (info, skb) = unsafe { (&*sys::pmig_genl_info_dump(cb), (*cb).skb) };
    // SAFETY: As above.
    let Some(command) = Command::from_wire(unsafe { (*info.genlhdr).cmd }) else {
        return EOPNOTSUPP.to_errno();
    };
    let request = Request { info, skb, command };
    let result = match request.is_allowed() {
        true => H::dump(&request),
        false => Err(EPERM.into()),
    };
    let state = result.and_then(|dump| {
        KBox::new(DumpState { dump, offset: 0 }, GFP_KERNEL).map_err(Failure::from)
    });
    match state {
        Ok(state) => {
            // SAFETY: The callback's storage is ours until `done`.
            unsafe {
                (*cb).min_dump_alloc = DUMP_BYTES;
                (*cb).__bindgen_anon_1.args[0] = KBox::into_raw(state) as isize;
            }
            0
        }
        Err(failure) => request.report(&failure),
    }
}

fn fill(
    state: &mut DumpState,
    skb: NonNull<bindings::sk_buff>,
    port: u32,
    seq: u32,
    cmd: u8,
) -> Result<bool> {
    let dump = &mut state.dump;
    let rest = dump.bytes.get(state.offset..).unwrap_or(&[]);
    let (attributes, length): (&[(Attribute, usize)], usize) = match &dump.parts {
        Parts::Records => {
            let length = next_records(rest);
            if length == 0 {
                return Ok(false);
            }
            (&[(Attribute::Records, length)], length)
        }
        Parts::Messages(messages) => match messages.get(dump.sent) {
            None => return Ok(false),
            Some(parts) => (parts, parts.iter().map(|part| part.1).sum()),
        },
    };
    // SAFETY: The message belongs to the dump; the call returns null if there is no room.
    let header = unsafe {
        bindings::genlmsg_put(
            skb.as_ptr(),
            port,
            seq,
            FAMILY_STATE.raw(),
            bindings::NLM_F_MULTI as c_int,
            cmd,
        )
    };
    let header = NonNull::new(header).ok_or(EMSGSIZE)?;
    let mut from = 0;
    for (attribute, length) in attributes {
        let end = length.saturating_add(from);
        let result = match rest.get(from..end) {
            Some(bytes) => put(skb, *attribute, bytes),
            None => Err(EINVAL),
        };
        if let Err(error) = result {
            // SAFETY: Takes back what was put after `header`.
            unsafe { sys::pmig_genlmsg_cancel(skb.as_ptr(), header.as_ptr()) };
            return Err(error);
        }
        from = end;
    }
    // SAFETY: The message is complete.
    unsafe { sys::pmig_genlmsg_end(skb.as_ptr(), header.as_ptr()) };
    state.offset = state.offset.saturating_add(length);
    dump.sent = dump.sent.saturating_add(1);
    Ok(true)
}

/// Fills the next message of a dump.
///
/// # Safety
///
/// Only for generic netlink, as `genl_ops::dumpit` after `start` has succeeded.
unsafe extern "C" fn dumpit(
    skb: *mut bindings::sk_buff,
    cb: *mut bindings::netlink_callback,
) -> c_int {
    // SAFETY: `start` left the state there; only one call of a dump runs at a time (nl_cb_mutex).
    let (state, info) = unsafe {
        (
            &mut *((*cb).__bindgen_anon_1.args[0] as usize as *mut DumpState),
            &*sys::pmig_genl_info_dump(cb),
        )
    };
    // SAFETY: As above.
    let (port, cmd) = unsafe { (info.snd_portid, (*info.genlhdr).cmd) };
    let Some(message) = NonNull::new(skb) else {
        return EINVAL.to_errno();
    };
    let mut any = false;
    loop {
        match fill(state, message, port, info.snd_seq, cmd) {
            Ok(true) => any = true,
            // Nothing left: 0 ends the dump once nothing was put.
            Ok(false) => break,
            Err(_) if any => break,
            Err(error) => return error.to_errno(),
        }
    }
    // SAFETY: The length is a plain word.
    unsafe { (*skb).len as c_int }
}

/// Drops the state of a dump.
///
/// # Safety
///
/// Only for generic netlink, as `genl_ops::done`.
unsafe extern "C" fn done(cb: *mut bindings::netlink_callback) -> c_int {
    // SAFETY: `start` left the state there, or zero if it failed.
    unsafe {
        let state = (*cb).__bindgen_anon_1.args[0] as usize as *mut DumpState;
        (*cb).__bindgen_anon_1.args[0] = 0;
        if !state.is_null() {
            drop(KBox::from_raw(state));
        }
    }
    0
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
                (*op).start = Some(start::<H>);
                (*op).dumpit = Some(dumpit);
                (*op).done = Some(done);
            } else {
                (*op).doit = Some(doit::<H>);
            }
        }
        let family = FAMILY_STATE.raw();
        for (to, from) in (*family).name.iter_mut().zip(FAMILY.bytes()) {
            *to = from;
        }
        (*family).version = u32::from(VERSION);
        (*family).maxattr = u32::from(Attribute::MAX);
        (*family).policy = policy;
        (*family).ops = ops;
        (*family).n_ops = OPS as u8;
        (*family).resv_start_op = Command::Adopt as u8 + 1;
        // Requests of different agents, and streams of one, run side by side.
        (*family).set_parallel_ops(1);
        (*family).module = module.as_ptr();
    }
}
