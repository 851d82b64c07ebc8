//! Extended attributes; see xattr(7).

use rustix::fs::{
    fgetxattr, fremovexattr, fsetxattr, getxattr, lgetxattr, listxattr, lsetxattr, removexattr,
    setxattr,
};

use crate::harness::*;

cases! {
    Anyone: set_get_list_remove, create_and_replace, sizes_are_asked_for_first, limits_of_names_and_values,
        through_a_descriptor, of_directories, not_of_symlinks_and_fifos, names_that_are_refused,
        needs_permissions, follow_the_file, moves_only_the_change_time, any_bytes, many, go_with_the_file,
        capabilities_need_a_capability,
        access_control_lists;
    Root: trusted_ones;
}

fn get(path: &str, name: &str) -> Result<Bytes> {
    let mut value = vec![0_u8; 70_000];
    let len = getxattr(path, name, &mut value[..])?;
    value.truncate(len);
    Ok(Bytes(value))
}

/// Sorted: the order is not promised. Those that the system adds by itself are left out.
fn list(path: &str) -> Result<Vec<Bytes>> {
    let mut names = vec![0_u8; 65_536];
    let len = listxattr(path, &mut names[..])?;
    let mut names: Vec<_> = names[..len]
        .split_inclusive(|&byte| byte == 0)
        .map(<[u8]>::to_vec)
        .collect();
    names.retain(|name| !name.starts_with(b"security."));
    names.sort();
    Ok(names.into_iter().map(Bytes).collect())
}

fn set(path: &str, name: &str, value: impl AsRef<[u8]>) -> Result<()> {
    setxattr(path, name, value.as_ref(), XattrFlags::empty())
}

fn set_get_list_remove() {
    make("f", "content");
    see!(list("f"));
    see!(get("f", "user.none"));
    see!(set("f", "user.b", "second"));
    see!(set("f", "user.a", "first"));
    see!(set("f", "user.empty", ""));
    see!(get("f", "user.a"));
    see!(get("f", "user.empty"));
    see!(list("f"));
    see!(set("f", "user.a", "changed to something longer"));
    see!(get("f", "user.a"));
    see!(removexattr("f", "user.b"));
    see!(removexattr("f", "user.b"));
    see!(get("f", "user.b"));
    see!(list("f"));
    see!(facts("f"));
}

fn create_and_replace() {
    make("f", "");
    see!(setxattr("f", "user.a", b"1", XattrFlags::REPLACE));
    see!(setxattr("f", "user.a", b"1", XattrFlags::CREATE));
    see!(setxattr("f", "user.a", b"2", XattrFlags::CREATE));
    see!(setxattr("f", "user.a", b"3", XattrFlags::REPLACE));
    see!(setxattr(
        "f",
        "user.a",
        b"4",
        XattrFlags::CREATE | XattrFlags::REPLACE
    ));
    see!(setxattr(
        "f",
        "user.b",
        b"4",
        XattrFlags::CREATE | XattrFlags::REPLACE
    ));
    see!(setxattr(
        "f",
        "user.a",
        b"5",
        XattrFlags::from_bits_retain(8)
    ));
    see!(get("f", "user.a"));
    see!(list("f"));
}

fn sizes_are_asked_for_first() {
    make("f", "");
    set("f", "user.a", "twelve bytes").unwrap();
    let none: &mut [u8] = &mut [];
    see!(getxattr("f", "user.a", &mut *none));
    see!(getxattr("f", "user.a", &mut [0_u8; 11][..]));
    see!(getxattr("f", "user.a", &mut [0_u8; 12][..]));
    see!(getxattr("f", "user.none", &mut *none));
    see!(listxattr("f", &mut [0_u8; 3][..]));
    set("f", "user.empty", "").unwrap();
    see!(getxattr("f", "user.empty", &mut *none));
    see!(getxattr("f", "user.empty", &mut [0_u8; 1][..]));
}

fn limits_of_names_and_values() {
    make("f", "");
    let longest = format!("user.{}", "n".repeat(250));
    see!(set("f", &longest, "value").is_ok());
    see!(get("f", &longest).is_ok());
    see!("one more", set("f", &format!("{longest}n"), "value"));
    see!("one more", get("f", &format!("{longest}n")));
    see!(set("f", "user.big", vec![b'v'; 65_537]));
    see!(set("f", "user.big", vec![b'v'; 65_536]));
    see!(get("f", "user.big"));
    see!(set("f", "user.big", vec![b'w'; 4_000]));
    see!(get("f", "user.big"));
}

fn through_a_descriptor() {
    let file = create("f");
    see!(fsetxattr(&file, "user.a", b"value", XattrFlags::empty()));
    see!(fgetxattr(&file, "user.a", &mut [0_u8; 10][..]));
    see!(unlink("f"));
    see!(fgetxattr(&file, "user.a", &mut [0_u8; 10][..]));
    see!(fsetxattr(&file, "user.b", b"value", XattrFlags::empty()));
    see!(fremovexattr(&file, "user.a"));
    see!(fgetxattr(&file, "user.a", &mut [0_u8; 10][..]));
    make("g", "");
    let path = open("g", O::PATH, 0).unwrap();
    see!(fsetxattr(&path, "user.a", b"value", XattrFlags::empty()));
    let reader = open("g", O::RDONLY, 0).unwrap();
    see!(fsetxattr(&reader, "user.a", b"value", XattrFlags::empty()));
}

fn of_directories() {
    mkdir("d", 0o755).unwrap();
    see!(set("d", "user.a", "value"));
    see!(get("d", "user.a"));
    see!(list("d"));
    make("d/f", "");
    see!(list("d/f"));
    see!(removexattr("d", "user.a"));
}

fn not_of_symlinks_and_fifos() {
    make("f", "");
    symlink("f", "l").unwrap();
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    see!(lsetxattr("l", "user.a", b"value", XattrFlags::empty()));
    see!(lgetxattr("l", "user.a", &mut [0_u8; 10][..]));
    see!(set("l", "user.a", "of the file"));
    see!(get("f", "user.a"));
    see!(set("fifo", "user.a", "value"));
    see!(get("fifo", "user.a"));
    see!(list("fifo"));
}

fn names_that_are_refused() {
    make("f", "");
    for name in [
        "",
        "user",
        "user.",
        "nonsense",
        "nonsense.a",
        ".a",
        "system.nonsense",
        "security.",
        "trusted.",
    ] {
        see!(name, set("f", name, "value"));
        see!(name, get("f", name));
        see!(name, removexattr("f", name));
    }
    see!(set("none", "user.a", "value"));
    see!(get("none", "user.a"));
    see!(list("none"));
    see!(list("f"));
}

fn needs_permissions() {
    make("f", "");
    set("f", "user.a", "value").unwrap();
    see!(chmod("f", 0o400));
    see!(set("f", "user.a", "changed"));
    see!(get("f", "user.a"));
    see!(removexattr("f", "user.a"));
    see!(chmod("f", 0o200));
    see!(get("f", "user.a"));
    see!(set("f", "user.b", "value"));
    see!(list("f"));
    if !is_root() {
        see!(set("f", "trusted.a", "value"));
        see!(get("f", "trusted.a"));
    }
}

fn follow_the_file() {
    make("f", "");
    set("f", "user.a", "value").unwrap();
    see!(link("f", "g"));
    see!(get("g", "user.a"));
    see!(rename("g", "h"));
    see!(get("h", "user.a"));
    see!(truncate("h", 100));
    see!(set("h", "user.a", "changed"));
    see!(get("f", "user.a"));
}

fn moves_only_the_change_time() {
    make("f", "");
    see!(relation_after("f", || set("f", "user.a", "value")));
    see!(relation_after("f", || set("f", "user.a", "value")));
    see!(relation_after("f", || get("f", "user.a")));
    see!(relation_after("f", || removexattr("f", "user.a")));
    see!(relation_after("f", || removexattr("f", "user.a")));
}

fn any_bytes() {
    make("f", "");
    let value: Vec<u8> = (0..=255).collect();
    see!(set("f", "user.bytes", &value));
    see!(get("f", "user.bytes"));
    see!(set("f", "user.a name=with:some / signs", "value"));
    see!(setxattr("f", c"user.\xff\xfe", b"v", XattrFlags::empty()));
    see!(list("f"));
}

fn many() {
    make("f", "");
    for number in 0..200 {
        set("f", &format!("user.{number:03}"), format!("value {number}")).unwrap();
    }
    see!(list("f"));
    for number in (0..200).step_by(2) {
        removexattr("f", format!("user.{number:03}")).unwrap();
    }
    see!(list("f").map(|names| names.len()));
    see!(get("f", "user.101"));
}

fn go_with_the_file() {
    make("f", "");
    set("f", "user.a", "value").unwrap();
    unlink("f").unwrap();
    make("f", "");
    see!(list("f"));
    see!(get("f", "user.a"));
}

fn capabilities_need_a_capability() {
    make("f", "");
    // Version 2, cap_net_raw=ep.
    let value = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    see!(set("f", "security.capability", value));
    see!(get("f", "security.capability"));
    see!("a write takes them away", write(&reopen("f"), "x"));
    see!(get("f", "security.capability"));
}

fn trusted_ones() {
    make("f", "");
    symlink("f", "l").unwrap();
    see!(set("f", "trusted.a", "value"));
    see!(get("f", "trusted.a"));
    see!(lsetxattr(
        "l",
        "trusted.a",
        b"of the link",
        XattrFlags::empty()
    ));
    see!(list("f"));
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    see!(set("fifo", "trusted.a", "value"));
    see!(list("fifo"));
    see!(removexattr("f", "trusted.a"));
    see!(list("f"));
}

fn access_control_lists() {
    make("f", "");
    // Version 2; user::rw-, group::r--, other::r--: what mode 0644 says as well.
    let entries = [(1_u16, 6_u16), (4, 4), (32, 4)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(u32::MAX.to_le_bytes());
    }
    let refused = "Err(Os { code: 95";
    allowed(
        Difference::NoAcl,
        "set",
        set("f", "system.posix_acl_access", &list),
        "Ok",
        refused,
    );
    let got = get("f", "system.posix_acl_access");
    allowed(Difference::NoAcl, "get", got, "Err(Os { code: 61", refused);
    see!(list_of_names_is_empty("f"));
    see!(mode_of("f"));
}

fn list_of_names_is_empty(path: &str) -> Result<bool> {
    list(path).map(|names| names.is_empty())
}
