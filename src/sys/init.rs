//! The first process of a PID namespace: with it, the kernel ends everything that is in there.
//!
//! It waits until the process that made it has ended or executes another program, and ends. That takes no more than a
//! dozen instructions, which are executed out of a file in memory: whatever program uses this library, its init shares
//! none of its memory, costs the same, and shows nothing of it in /proc. Others start processes in the namespace
//! ([`Launch::start_in`](super::launch::Launch::start_in)). What loses its parent there becomes a child of the init,
//! which ignores SIGCHLD, so that the kernel collects it.
//!
//! All its signals are blocked: Ctrl-C, Ctrl-Z and a closed terminal reach the steps, which are in the caller's process
//! group as well, and not the init.

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fstat, memfd_create, stat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, Resource, Signal, pidfd_send_signal};

use super::child::Child;
use super::launch::{Failure, LaunchError, Stage};
use super::namespaces::{Namespaces, enter_pid_namespace};
use super::proc;
use super::signals::{self, InheritedSignals};
use super::vfork::{Newborn, close_range, dies_with_parent, vfork};

/// What its command line says.
const NAME: &CStr = c"notapipe-init";

/// `while (poll((struct pollfd[]){{3, POLLIN}, {4, POLLIN}}, 2, -1) < 0); exit_group(0)`, where 3 is the process that made
/// it, which is readable when that has ended, and 4 a pipe whose other end only that process has, until it executes a
/// program.
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[
    0x31, 0xc0, // xor eax, eax
    0xff, 0xc0, // inc eax
    0x48, 0xc1, 0xe0, 0x20, // shl rax, 32
    0x48, 0x83, 0xc0, 0x04, // add rax, 4
    0x50, // push rax
    0x48, 0xff, 0xc8, // dec rax
    0x50, // push rax
    0x48, 0x89, 0xe7, // again: mov rdi, rsp
    0x6a, 0x02, // push 2
    0x5e, // pop rsi
    0x48, 0x83, 0xca, 0xff, // or rdx, -1
    0x6a, 0x07, // push 7 (poll)
    0x58, // pop rax
    0x0f, 0x05, // syscall
    0x85, 0xc0, // test eax, eax
    0x78, 0xed, // js again
    0x31, 0xff, // xor edi, edi
    0xb8, 0xe7, 0x00, 0x00, 0x00, // mov eax, 231 (exit_group)
    0x0f, 0x05, // syscall
];
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
const CODE: &[u8] = &[
    0x69, 0x00, 0x80, 0xd2, // mov x9, #3
    0x29, 0x00, 0xc0, 0xf2, // movk x9, #1, lsl #32
    0x2a, 0x05, 0x00, 0x91, // add x10, x9, #1
    0xe9, 0x2b, 0xbf, 0xa9, // stp x9, x10, [sp, #-16]!
    0xe0, 0x03, 0x00, 0x91, // again: mov x0, sp
    0x41, 0x00, 0x80, 0xd2, // mov x1, #2
    0x02, 0x00, 0x80, 0xd2, // mov x2, #0
    0x03, 0x00, 0x80, 0xd2, // mov x3, #0
    0x28, 0x09, 0x80, 0xd2, // mov x8, #73 (ppoll)
    0x01, 0x00, 0x00, 0xd4, // svc #0
    0x40, 0xff, 0xff, 0x37, // tbnz w0, #31, again
    0x00, 0x00, 0x80, 0xd2, // mov x0, #0
    0xc8, 0x0b, 0x80, 0xd2, // mov x8, #94 (exit_group)
    0x01, 0x00, 0x00, 0xd4, // svc #0
];
#[cfg(target_arch = "riscv64")]
const CODE: &[u8] = &[
    0x13, 0x01, 0x01, 0xff, // addi sp, sp, -16
    0x93, 0x02, 0x10, 0x00, // li t0, 1
    0x93, 0x92, 0x02, 0x02, // slli t0, t0, 32
    0x93, 0x82, 0x32, 0x00, // addi t0, t0, 3
    0x23, 0x30, 0x51, 0x00, // sd t0, 0(sp)
    0x93, 0x82, 0x12, 0x00, // addi t0, t0, 1
    0x23, 0x34, 0x51, 0x00, // sd t0, 8(sp)
    0x13, 0x05, 0x01, 0x00, // again: mv a0, sp
    0x93, 0x05, 0x20, 0x00, // li a1, 2
    0x13, 0x06, 0x00, 0x00, // li a2, 0
    0x93, 0x06, 0x00, 0x00, // li a3, 0
    0x93, 0x08, 0x90, 0x04, // li a7, 73 (ppoll)
    0x73, 0x00, 0x00, 0x00, // ecall
    0xe3, 0x44, 0x05, 0xfe, // bltz a0, again
    0x13, 0x05, 0x00, 0x00, // li a0, 0
    0x93, 0x08, 0xe0, 0x05, // li a7, 94 (exit_group)
    0x73, 0x00, 0x00, 0x00, // ecall
];
/// Nobody has written it for this machine.
#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_endian = "little"),
    target_arch = "riscv64"
)))]
const CODE: &[u8] = &[];

/// `e_machine` (elf(5)).
const MACHINE: u16 = match () {
    () if cfg!(target_arch = "x86_64") => 62,
    () if cfg!(target_arch = "riscv64") => 243,
    () => 183,
};

/// An ELF file of one segment, which is all of it (elf(5)).
fn image() -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    const ADDRESS: u64 = 0x40_0000;
    const LARGEST_PAGE: u64 = 0x1_0000;
    let length = HEADERS + CODE.len() as u64;
    let mut image = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |number: u64, bytes: usize| image.extend(&number.to_le_bytes()[..bytes]);
    // e_type (ET_EXEC), e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags.
    for (number, bytes) in [(2, 2), (MACHINE.into(), 2), (1, 4)] {
        put(number, bytes);
    }
    for (number, bytes) in [(ADDRESS + HEADERS, 8), (64, 8), (0, 8), (0, 4)] {
        put(number, bytes);
    }
    // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    for number in [64, 56, 1, 0, 0, 0] {
        put(number, 2);
    }
    // p_type (PT_LOAD), p_flags (PF_R | PF_X), p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
    put(1, 4);
    put(5, 4);
    for number in [0, ADDRESS, ADDRESS, length, length, LARGEST_PAGE] {
        put(number, 8);
    }
    image.extend(CODE);
    image
}

/// The program, in a sealed file without a name.
fn program() -> Result<OwnedFd, Errno> {
    if CODE.is_empty() {
        return Err(Errno::OPNOTSUPP);
    }
    let image = image();
    // Past this limit of the caller's, a write would kill us (SIGXFSZ).
    let most = rustix::process::getrlimit(Resource::Fsize).current;
    if most.is_some_and(|most| most < image.len() as u64) {
        return Err(Errno::FBIG);
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(NAME, flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 there is no such flag, and every file may be executed.
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        made => made,
    }?;
    rustix::io::write(&file, &image)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// A running init. Dropping it ends everything in its PID namespace, and does not wait for that.
#[derive(Debug)]
pub(crate) struct Init {
    process: Child,
    #[expect(
        dead_code,
        reason = "held: when this process executes a program, the init ends"
    )]
    lifeline: OwnedFd,
    /// Where it was made in a copy of our mount namespace.
    copy: Option<Namespaces>,
    /// The /proc of its PID namespace, which shows all that is in it, whatever mount namespaces that made for itself.
    proc: OwnedFd,
}

impl Init {
    /// Starts it: in these namespaces, or in a copy of our mount namespace, in which mounting changes nothing outside. Its
    /// PID namespace has its own /proc there.
    ///
    /// The namespaces are entered by a child that then starts it as *our* child (`CLONE_PARENT`): an ordinary user may
    /// make a PID namespace only from inside a user namespace.
    /// With `replaces`, one that was made in these namespaces before has ended.
    pub(crate) fn start(
        namespaces: Option<&Namespaces>,
        replaces: bool,
        null: &File,
    ) -> Result<Self, LaunchError> {
        let failed = |error: io::Error| LaunchError::new(Stage::StartInit, error);
        let (theirs, lifeline) = pipe_with(PipeFlags::CLOEXEC).map_err(|it| failed(it.into()))?;
        let ourselves = rustix::process::getpid();
        let parts = Parts {
            program: program().map_err(|errno| failed(errno.into()))?,
            null,
            owner: rustix::process::pidfd_open(ourselves, PidfdFlags::empty())
                .map_err(|errno| failed(errno.into()))?,
            lifeline: theirs,
        };
        let (mut failure, mut refused, mut started, mut copy) = (None, None, None, None);
        let body = || {
            failure = parts.become_init(replaces).err();
            127
        };
        let mut newborn = Newborn::new(body).map_err(failed)?;
        let make = || {
            let entered = match namespaces {
                Some(namespaces) => namespaces.enter(None).map_err(Failure::from),
                None => copy_mount_namespace().map(|made| copy = Some(made)),
            };
            let flags = libc::CLONE_NEWPID | libc::CLONE_PARENT | libc::CLONE_VFORK;
            let made = entered.and_then(|()| {
                // SAFETY: system calls on what was made before; this process waits meanwhile.
                unsafe { newborn.start(flags) }.map_err(|error| Failure::of(Stage::NewPid, &error))
            });
            match made {
                Ok(child) => {
                    // Whether it can be entered: a sandbox may allow one and not the other.
                    refused = enter_pid_namespace(child.as_fd()).err().map(Failure::from);
                    started = Some(child);
                }
                Err(error) => refused = Some(error),
            }
            0
        };
        // SAFETY: as above. The descriptor table is shared, so that what is opened is ours; only the init itself changes
        // descriptors, in a table of its own.
        let outer = unsafe { vfork(libc::CLONE_FILES, make) }.map_err(failed)?;
        outer.wait().map_err(failed)?;
        match (started, failure.or(refused)) {
            (Some(process), None) => Ok(Self {
                proc: open_proc(process.pid()).map_err(|errno| failed(errno.into()))?,
                process,
                lifeline,
                copy,
            }),
            (child, failure) => {
                if let Some(child) = child {
                    let _ = child.signal(Signal::KILL);
                    let _ = child.wait();
                }
                let killed = || failed(io::Error::other("the child that makes it was killed"));
                Err(failure.map_or_else(killed, LaunchError::from))
            }
        }
    }

    /// Moves the calling process to where its processes are, and those that it will start into its PID namespace; `entered`
    /// are the namespaces that it was made in. Only bare system calls: for a vforked child.
    pub(crate) fn enter(&self, entered: Option<&Namespaces>) -> Result<(), Failure> {
        let namespaces = self.copy.as_ref().or(entered);
        let namespaces = namespaces.ok_or(Failure::new(Stage::JoinMount, Errno::BADF))?;
        Ok(namespaces.enter(Some(self.process.as_fd()))?)
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// A path to the /proc of its PID namespace, in which its own number is 1.
    pub(crate) fn own_proc(&self) -> String {
        format!("/proc/self/fd/{}", self.proc.as_raw_fd())
    }

    /// Whether nothing is left in its PID namespace but what others have started there and not collected; false where
    /// that cannot be told.
    pub(crate) fn has_no_children(&self) -> bool {
        let pid = self.pid();
        match std::fs::read(format!("/proc/{pid}/task/{pid}/children")) {
            Ok(children) => children.is_empty(),
            // Not every kernel has this file.
            Err(_) => proc::numbers_in(&self.own_proc()).is_ok_and(|it| it == [1]),
        }
    }

    /// The numbers that the others in its PID namespace have there, without those that have ended.
    pub(crate) fn others(&self) -> io::Result<Vec<i32>> {
        let own_proc = self.own_proc();
        let mut others = proc::numbers_in(&own_proc)?;
        others.retain(|&pid| pid != 1 && proc::living_thread_in(&own_proc, pid).is_some());
        Ok(others)
    }

    /// The numbers that all of these have here. It takes a look at every process of the machine.
    pub(crate) fn numbers_here(&self) -> Vec<i32> {
        let others = self.others().unwrap_or_default();
        let all = match others.is_empty() {
            true => Vec::new(),
            false => proc::all().unwrap_or_default(),
        };
        let own_proc = self.own_proc();
        let is_one = |&pid: &i32| {
            proc::number_below(pid).is_some_and(|there| {
                // In another PID namespace a process may have the number that one has in this.
                others.contains(&there)
                    && proc::start_time(proc::OURS, pid) == proc::start_time(&own_proc, there)
            })
        };
        all.into_iter().filter(is_one).collect()
    }

    /// The number that one of these has here.
    pub(crate) fn number_here(&self, other: i32) -> Option<i32> {
        let mut all = self.numbers_here().into_iter();
        all.find(|&pid| proc::number_below(pid) == Some(other))
    }

    /// Sends a signal to all others.
    pub(crate) fn signal_others(&self, signal: Signal) -> io::Result<()> {
        for pid in self.others()? {
            // A directory of /proc stands for its process (pidfd_send_signal(2)), which may have ended meanwhile.
            let path = format!("{}/{pid}", self.own_proc());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(process) => drop(pidfd_send_signal(process, signal)),
                Err(Errno::NOENT | Errno::SRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Ends it, and everything in its PID namespace.
    pub(crate) fn kill(&self) {
        let _ = self.process.signal(Signal::KILL);
    }

    /// Collects it if it has ended: nothing is left in its PID namespace then.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }
}

impl AsFd for Init {
    /// Readable when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The /proc that it has mounted: before there are others, who could mount something over it.
fn open_proc(init: i32) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/{init}/root/proc");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open(path, flags, Mode::empty())?;
    // What it lists is killed: never what ours lists.
    match fstat(&proc)?.st_dev == stat(c"/proc")?.st_dev {
        true => Err(Errno::XDEV),
        false => Ok(proc),
    }
}

/// What an init is made from.
struct Parts<'n> {
    program: OwnedFd,
    null: &'n File,
    owner: OwnedFd,
    lifeline: OwnedFd,
}

impl Parts<'_> {
    /// In the first process itself. Returns only when it failed.
    fn become_init(&self, replaces: bool) -> Result<(), Failure> {
        mount_proc(replaces)?;
        // A kernel that cannot restore processes has no such file.
        let _ = number_processes_from(random_number());
        // SAFETY: a vforked child has a table of signal actions of its own.
        unsafe { InheritedSignals::of_an_init().set_actions() };
        signals::set_mask(!0);
        let at = |errno| Failure::new(Stage::StartInit, errno);
        let program = self.place_descriptors().map_err(at)?;
        rustix::process::chdir(c"/").map_err(at)?;
        dies_with_parent(false);
        Err(at(execute(&program)))
    }

    /// Gives them their numbers, and the program one above.
    fn place_descriptors(&self) -> Result<OwnedFd, Errno> {
        const FIRST_FREE: RawFd = 5;
        let (null, program) = (self.null.as_fd(), self.program.as_fd());
        let wanted = [null, null, null, self.owner.as_fd(), self.lifeline.as_fd()];
        let mut above = [-1; FIRST_FREE as usize];
        for (moved, file) in above.iter_mut().zip(wanted) {
            *moved = rustix::io::fcntl_dupfd_cloexec(file, FIRST_FREE)?.into_raw_fd();
        }
        let program = rustix::io::fcntl_dupfd_cloexec(program, FIRST_FREE)?;
        for (number, moved) in (0..).zip(above) {
            // SAFETY: whatever has this number in the child's own table is used by nothing in it any more.
            unsafe { libc::dup2(moved, number) };
        }
        close_range(
            FIRST_FREE.unsigned_abs(),
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        Ok(program)
    }
}

fn execute(program: &OwnedFd) -> Errno {
    let (arguments, environment) = ([NAME.as_ptr(), ptr::null()], [ptr::null::<u8>()]);
    // SAFETY: both lists end with a null pointer, and every string outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    super::launch::last_errno()
}

/// A copy of our mount namespace in which mounting changes nothing outside; for the calling process.
fn copy_mount_namespace() -> Result<Namespaces, Failure> {
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    let open = |path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    // SAFETY: the descriptor table stays as it is.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
        .and_then(|()| rustix::mount::mount_change(c"/", slave))
        .and_then(|()| {
            Ok(Namespaces {
                user: None,
                ipc: None,
                mount: open(c"/proc/self/ns/mnt", OFlags::RDONLY)?,
                root: open(c"/", OFlags::PATH | OFlags::DIRECTORY)?,
                tmpfs: None,
            })
        })
        .map_err(|errno| Failure::new(Stage::NewMount, errno))
}

/// Over the one that is there, or instead of that of an init which has ended.
fn mount_proc(replaces: bool) -> Result<(), Failure> {
    if replaces {
        // A tool may have mounted something over it: then it stays below.
        let _ = rustix::mount::unmount(c"/proc", UnmountFlags::DETACH);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(c"proc", c"/proc", c"proc", flags, None)
        .map_err(|errno| Failure::new(Stage::MountProc, errno))
}

/// In five digits, below the least `kernel.pid_max` that is usual.
fn random_number() -> u32 {
    let mut bytes = [0; 4];
    // SAFETY: a buffer and its length. What is not filled in, on a kernel without entropy, stays 0.
    unsafe {
        let buffer: *mut c_int = bytes.as_mut_ptr().cast();
        libc::syscall(
            libc::SYS_getrandom,
            buffer,
            bytes.len(),
            libc::GRND_NONBLOCK,
        );
    }
    10_000 + u32::from_ne_bytes(bytes) % 20_000
}

/// Two jobs at once that name something after a process would else choose the same names (pid_namespaces(7)).
fn number_processes_from(number: u32) -> Result<(), Errno> {
    let digits = [10_000, 1_000, 100, 10, 1].map(|unit| b'0' + (number / unit % 10) as u8);
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let last = rustix::fs::open(c"/proc/sys/kernel/ns_last_pid", flags, Mode::empty())?;
    rustix::io::write(&last, &digits).map(drop)
}
