//! A specification survives its way through a file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// Bytes that may stand in a name: also what is not UTF-8, and what a terminal would obey.
fn word() -> impl Strategy<Value = OsString> {
    let any = vec(1_u8..=255, 1..8).prop_map(OsString::from_vec);
    prop_oneof![any, "[a-z= -]{1,8}".prop_map(OsString::from)]
}

fn name() -> impl Strategy<Value = TreePath> {
    word().prop_filter_map("a path below the root", |word| {
        let path = TreePath::parse(word.as_encoded_bytes()).ok()?;
        Some(path).filter(|path| !path.is_root())
    })
}

/// Neither empty nor `-`, which is a stream.
fn path() -> impl Strategy<Value = PathBuf> {
    word()
        .prop_filter("a path", |word| word != "-")
        .prop_map(PathBuf::from)
}

fn source() -> impl Strategy<Value = InputSource> {
    prop_oneof![
        path().prop_map(InputSource::Host),
        Just(InputSource::Stdin),
        vec(any::<u8>(), 0..9).prop_map(|bytes| InputSource::Bytes(bytes.into())),
    ]
}

fn output() -> impl Strategy<Value = OutputSpec> {
    let dest = prop_oneof![path().prop_map(OutputDest::Host), Just(OutputDest::Stdout)];
    (name(), dest).prop_map(|(name, dest)| OutputSpec { name, dest })
}

fn piped() -> impl Strategy<Value = PipedFile> {
    let command = word().prop_filter("a command", |word| {
        !word.as_encoded_bytes().trim_ascii().is_empty()
    });
    (name(), command).prop_map(|(name, command)| PipedFile { name, command })
}

fn stdin() -> impl Strategy<Value = Stdin> {
    prop_oneof![
        Just(Stdin::Null),
        Just(Stdin::Inherit),
        vec(any::<u8>(), 0..9).prop_map(|bytes| Stdin::Bytes(bytes.into())),
        name().prop_map(Stdin::File),
    ]
}

fn stdout() -> impl Strategy<Value = Stdout> {
    prop_oneof![
        Just(Stdout::Capture),
        Just(Stdout::Null),
        Just(Stdout::Inherit),
        Just(Stdout::Stderr),
        name().prop_map(Stdout::File),
    ]
}

prop_compose! {
    fn step()(
        command in vec(word(), 1..4),
        pipe: bool,
        stdin in option::of(stdin()),
        stdout in option::of(stdout()),
        stderr in option::of(stdout()),
        env_clear: bool,
        env in vec(("[A-Z]{1,3}", word()), 0..3),
        chdir in option::of(name()),
    ) -> StepSpec {
        let env = env.into_iter().map(|(name, value)| (name.into(), value)).collect();
        StepSpec { command, pipe, stdin, stdout, stderr, env_clear, env, chdir }
    }
}

fn time() -> impl Strategy<Value = Option<Duration>> {
    option::of((1..u64::from(u32::MAX)).prop_map(Duration::from_nanos))
}

prop_compose! {
    /// The options of one value.
    fn options()(
        size in option::of(prop_oneof![
            (4096_u64..1 << 60).prop_map(Size::Bytes),
            (1_u8..=100).prop_map(Size::Percent),
        ]),
        inodes in option::of(2_u64..1 << 60),
        paths in vec(option::of(path()), 5),
        times in [time(), time(), time(), time()],
        flags: [bool; 2],
        enums in (0_usize..3, 0_usize..2, 0_usize..4, 0_usize..4),
        profile in option::of(prop_oneof![Just(Profile::Fast), Just(Profile::Observed)]),
        cpus in prop_oneof![Just(Cpus::All), Just(Cpus::One), vec(0_usize..99, 1..4).prop_map(Cpus::These)],
        counts in [option::of(1_u64..99), option::of(1_u64..99)],
        follow in option::of(name()),
    ) -> JobSpec {
        let mut paths = paths.into_iter();
        let mut path = || paths.next().flatten();
        let [timeout, kill_after, settle, cpu] = times;
        let [processes, files] = counts;
        JobSpec {
            size,
            inodes,
            at: path(),
            report: path(),
            keep_on_failure: path(),
            changed: path(),
            pack: path(),
            mount: Visibility::NAMES[enums.0].parse().unwrap(),
            tmp: Tmp::NAMES[enums.1].parse().unwrap(),
            backing: Backing::NAMES[enums.2].parse().unwrap(),
            verbosity: Verbosity::NAMES[enums.3].parse().unwrap(),
            timeout,
            kill_after,
            settle,
            limit: ResourceLimits { cpu, processes, files, ..ResourceLimits::default() },
            allow_other: flags[0],
            xattr: flags[1],
            profile,
            cpus,
            follow,
            ..JobSpec::default()
        }
    }
}

prop_compose! {
    fn spec()(
        options in options(),
        unpack in vec(source(), 0..3),
        collect in vec(("[a-z*]{1,4}", path()), 0..3),
        input in vec((name(), source()), 0..3),
        output in vec(output(), 0..3),
        optional in vec(output(), 0..3),
        input_from in vec(piped(), 0..2),
        output_to in vec(piped(), 0..2),
        step in vec(step(), 0..4),
    ) -> JobSpec {
        let glob = |(pattern, dest): (String, PathBuf)| {
            Glob::new(&pattern).ok().map(|glob| MatchingOutput { glob, dest })
        };
        JobSpec {
            unpack,
            collect: collect.into_iter().filter_map(glob).collect(),
            input: input.into_iter().map(|(name, source)| InputSpec { name, source }).collect(),
            output,
            optional,
            input_from,
            output_to,
            step,
            ..options
        }
    }
}

proptest! {
    #[test]
    fn it_comes_back_from_toml_and_json(spec in spec()) {
        let text = toml::to_string_pretty(&spec).unwrap();
        prop_assert_eq!(&toml::from_str::<JobSpec>(&text).unwrap(), &spec, "{}", text);
        let text = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(&serde_json::from_str::<JobSpec>(&text).unwrap(), &spec, "{}", text);
        let value = serde_json::to_value(&spec).unwrap();
        prop_assert_eq!(&serde_json::from_value::<JobSpec>(value).unwrap(), &spec);
    }
}

#[test]
fn what_is_not_utf_8_is_the_list_of_its_bytes() {
    let mut spec = JobSpec::default();
    spec.step.push(StepSpec {
        command: vec![OsString::from_vec(b"a\xff".to_vec()), "b".into()],
        ..StepSpec::default()
    });
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(text, r#"{"step":[{"command":[[97,255],"b"]}]}"#);
}
