//! What passes between us and the init of a job.
//!
//! We send one packet a step over the control socket: the length of its description ([`encode`]), and descriptors of a
//! socket from which that is read, of the socket to report to, and of the three streams. A socket because a command line may be megabytes long, and a packet may not; and no
//! file in memory, as a limit of the caller's for the size of files (RLIMIT_FSIZE) holds for that too. The init reports on
//! the step's own socket: [`Report::Started`] with the process's descriptor or [`Report::Failed`], and at last
//! [`Report::Ended`]. End of file instead means that the init is gone, and with it the step.
//!
//! Both ends are the same binary, so there is no version. All sockets keep packets apart
//! (`SOCK_SEQPACKET`).

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::{Exit, StepStatus};
use crate::sys::launch::{Candidate, Launch, Rlimits, Stage, StreamFiles};
use crate::sys::signals::InheritedSignals;
use crate::sys::socket;

/// How many descriptors come with every request for a step.
pub(crate) const REQUEST_DESCRIPTORS: usize = 5;

/// What the init tells about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// It runs; its descriptor (pidfd_open(2)) comes along.
    Started,
    /// It does not.
    Failed {
        stage: Stage,
        errno: i32,
        program: u32,
    },
    /// It has ended.
    Ended(StepStatus, Left),
}

/// What else the init has to care for at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing of the job runs.
    Nobody,
    /// Another step, or something that a step left behind.
    Somebody,
}

impl Report {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut packet = Vec::with_capacity(socket::MAX_BYTES);
        match self {
            Report::Started => packet.push(b'S'),
            Report::Failed {
                stage,
                errno,
                program,
            } => {
                packet.extend([b'F', stage.number()]);
                packet.extend(errno.to_le_bytes());
                packet.extend(program.to_le_bytes());
            }
            Report::Ended(status, left) => {
                let (kind, number) = match status.exit {
                    Exit::Code(code) => (b'E', code),
                    Exit::Signal(signal) => (b'K', signal),
                };
                packet.push(kind);
                packet.extend(number.to_le_bytes());
                for time in [status.wall_time, status.user_time, status.system_time] {
                    packet.extend(
                        u64::try_from(time.as_micros())
                            .unwrap_or(u64::MAX)
                            .to_le_bytes(),
                    );
                }
                packet.extend(status.max_rss_bytes.to_le_bytes());
                packet.push(u8::from(*left == Left::Somebody));
            }
        }
        packet
    }

    pub(crate) fn decode(packet: &[u8]) -> io::Result<Self> {
        let mut rest = Reader(packet);
        match rest.byte()? {
            b'S' => Ok(Report::Started),
            b'F' => {
                let stage = Stage::from_number(rest.byte()?).ok_or(io::ErrorKind::InvalidData)?;
                Ok(Report::Failed {
                    stage,
                    errno: i32::from_le_bytes(rest.array()?),
                    program: rest.u32()?,
                })
            }
            b'E' => Ok(Report::Ended(rest.status(Exit::Code)?, rest.left()?)),
            b'K' => Ok(Report::Ended(rest.status(Exit::Signal)?, rest.left()?)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// What to start, but for its streams.
pub(crate) fn encode(launch: &Launch<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    let programs: Vec<CString> = launch.programs.iter().map(|it| it.path.clone()).collect();
    put_list(&mut text, &programs);
    text.extend(launch.programs.iter().map(|it| u8::from(it.decides)));
    put_list(&mut text, &launch.arguments);
    put_list(&mut text, &launch.environment);
    put_list(&mut text, launch.directory.as_slice());
    put_list(&mut text, std::slice::from_ref(&launch.stream_files.root));
    for name in &launch.stream_files.names {
        put_list(&mut text, name.as_slice());
    }
    for set in [launch.signals.ignored, launch.signals.blocked] {
        text.extend(set.to_le_bytes());
    }
    let Rlimits {
        cpu_seconds,
        address_space_bytes,
        descriptors,
    } = launch.rlimits;
    for limit in [cpu_seconds, address_space_bytes, descriptors] {
        text.push(u8::from(limit.is_some()));
        text.extend(limit.unwrap_or(0).to_le_bytes());
    }
    text
}

/// What to start, with the streams put in.
pub(crate) fn decode<'a>(text: &[u8], stdio: [BorrowedFd<'a>; 3]) -> io::Result<Launch<'a>> {
    let mut rest = Reader(text);
    let paths = rest.list()?;
    let programs = paths
        .into_iter()
        .map(|path| {
            Ok(Candidate {
                path,
                decides: rest.byte()? != 0,
            })
        })
        .collect::<io::Result<_>>()?;
    let (arguments, environment) = (rest.list()?, rest.list()?);
    let directory = rest.list()?.pop();
    let stream_files = StreamFiles {
        root: rest.list()?.pop().unwrap_or_default(),
        names: [rest.list()?.pop(), rest.list()?.pop(), rest.list()?.pop()],
    };
    let signals = InheritedSignals {
        ignored: rest.u64()?,
        blocked: rest.u64()?,
    };
    let rlimits = Rlimits {
        cpu_seconds: rest.limit()?,
        address_space_bytes: rest.limit()?,
        descriptors: rest.limit()?,
    };
    Ok(Launch {
        programs,
        arguments,
        environment,
        directory,
        stream_files,
        signals,
        rlimits,
        ..Launch::new(stdio)
    })
}

fn put_list(text: &mut Vec<u8>, strings: &[CString]) {
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    text.extend(number(strings.len()));
    for string in strings {
        text.extend(number(string.as_bytes().len()));
        text.extend(string.as_bytes());
    }
}

/// Takes values off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, length: usize) -> io::Result<&[u8]> {
        let (front, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn limit(&mut self) -> io::Result<Option<u64>> {
        let is_given = self.byte()? != 0;
        let limit = self.u64()?;
        Ok(is_given.then_some(limit))
    }

    fn micros(&mut self) -> io::Result<Duration> {
        Ok(Duration::from_micros(self.u64()?))
    }

    fn list(&mut self) -> io::Result<Vec<CString>> {
        (0..self.u32()?)
            .map(|_| {
                let length = self.u32()? as usize;
                CString::new(self.take(length)?).map_err(|_| io::ErrorKind::InvalidData.into())
            })
            .collect()
    }

    fn left(&mut self) -> io::Result<Left> {
        Ok(match self.byte()? {
            0 => Left::Nobody,
            _ => Left::Somebody,
        })
    }

    fn status(&mut self, exit: fn(i32) -> Exit) -> io::Result<StepStatus> {
        Ok(StepStatus {
            exit: exit(i32::from_le_bytes(self.array()?)),
            wall_time: self.micros()?,
            user_time: self.micros()?,
            system_time: self.micros()?,
            max_rss_bytes: u64::from_le_bytes(self.array()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn reports_come_back_as_they_were_sent() {
        let status = StepStatus {
            exit: Exit::Signal(9),
            wall_time: Duration::from_micros(1),
            user_time: Duration::from_secs(2),
            system_time: Duration::ZERO,
            max_rss_bytes: u64::MAX,
        };
        let failed = Report::Failed {
            stage: Stage::Execute,
            errno: 2,
            program: 7,
        };
        let ended = [Left::Nobody, Left::Somebody].map(|left| Report::Ended(status, left));
        for report in [Report::Started, failed].into_iter().chain(ended) {
            assert!(report.encode().len() <= socket::MAX_BYTES);
            assert_eq!(Report::decode(&report.encode()).unwrap(), report);
        }
        assert!(Report::decode(b"").is_err());
        assert!(Report::decode(b"E123").is_err());
        assert!(Report::decode(b"?").is_err());
    }

    #[test]
    fn a_long_command_line_comes_back_whole() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let stdio = [null.as_fd(); 3];
        let launch = Launch {
            programs: vec![Candidate {
                path: c"/bin/true".into(),
                decides: true,
            }],
            arguments: vec![CString::new(vec![b'x'; 1 << 20]).unwrap(), c"".into()],
            environment: vec![c"A=1".into()],
            directory: Some(c"/mnt".into()),
            stream_files: StreamFiles {
                root: c"/mnt".into(),
                names: [None, Some(c"out".into()), None],
            },
            signals: InheritedSignals {
                ignored: 1,
                blocked: 2,
            },
            rlimits: Rlimits {
                descriptors: Some(7),
                ..Rlimits::default()
            },
            ..Launch::new(stdio)
        };
        let back = decode(&encode(&launch), stdio).unwrap();
        assert_eq!(back.programs, launch.programs);
        assert_eq!(back.arguments, launch.arguments);
        assert_eq!(back.environment, launch.environment);
        assert_eq!(back.directory, launch.directory);
        assert_eq!(back.stream_files, launch.stream_files);
        assert_eq!(back.signals, launch.signals);
        assert_eq!(back.rlimits, launch.rlimits);
    }
}
