//! The tools of the table in docs/tools.md, a test each; and that the table says what is tested.

use crate::bench_dir::Pair;
use crate::case::{Case, Same};

/// Makes a test of each case, and the list of them all.
macro_rules! cases {
    ($($name:ident: $case:expr;)*) => {
        const ALL: &[Case] = &[$($case),*];
        $(#[test]
        fn $name() {
            const CASE: Case = $case;
            CASE.check();
        })*
    };
}

cases! {
    rgbfix_patches_in_place: Case {
        tool: "`rgbfix -v A.gb`, in place",
        on_a_fifo: "refuses: not a regular file",
        prepare: |pair| {
            pair.copy_from("examples/gameboy/simple");
            pair.make(&["rgbasm", "A.asm", "-o", "A.o"], "A.o");
            pair.make(&["rgbasm", "B.asm", "-o", "B.o"], "B.o");
            pair.make(&["rgblink", "A.o", "B.o", "-o", "A.gb"], "A.gb");
        },
        inputs: &["A.gb"],
        steps: &[&["rgbfix", "-v", "-p", "0xff", "A.gb"]],
        outputs: &["A.gb"],
        same: Same::Bytes,
    };
    a_source_that_is_included_twice: Case {
        tool: "`rgbasm` with a source INCLUDEd twice",
        on_a_fifo: "hangs at the second open",
        prepare: |pair| {
            pair.write("data.inc", "    db $01, $02\n");
            pair.write("A.asm", "SECTION \"x\", ROM0\nINCLUDE \"data.inc\"\nINCLUDE \"data.inc\"\n");
        },
        inputs: &["A.asm", "data.inc"],
        steps: &[&["rgbasm", "A.asm", "-o", "A.o"]],
        outputs: &["A.o"],
        same: Same::Bytes,
    };
    three_outputs_read_one_after_another: Case {
        tool: "`rgblink -o A.gb -m A.map -n A.sym`, read one after another",
        on_a_fifo: "both wait for ever",
        prepare: |pair| {
            pair.copy_from("examples/gameboy/simple");
            pair.make(&["rgbasm", "A.asm", "-o", "A.o"], "A.o");
            pair.make(&["rgbasm", "B.asm", "-o", "B.o"], "B.o");
        },
        inputs: &["A.o", "B.o"],
        steps: &[
            &["rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map", "-n", "A.sym"],
            &["sh", "-c", "cat A.gb A.map A.sym > all"],
        ],
        outputs: &["A.gb", "A.map", "A.sym", "all"],
        same: Same::Bytes,
    };
    ld_links_relocatably: Case {
        tool: "`ld -r`",
        on_a_fifo: "fails: illegal seek",
        prepare: two_objects,
        inputs: &["one.o", "two.o"],
        steps: &[&["ld", "-r", "one.o", "two.o", "-o", "both.o"]],
        outputs: &["both.o"],
        same: Same::Bytes,
    };
    objcopy_writes_a_binary: Case {
        tool: "`objcopy -O binary`",
        on_a_fifo: "fails: illegal seek, after part of the output",
        prepare: two_objects,
        inputs: &["one.o"],
        steps: &[&["objcopy", "-O", "binary", "one.o", "one.bin"]],
        outputs: &["one.bin"],
        same: Same::Bytes,
    };
    strip_works_in_place: Case {
        tool: "`strip`, in place",
        on_a_fifo: "refuses: not an ordinary file",
        prepare: two_objects,
        inputs: &["one.o"],
        steps: &[&["strip", "one.o"]],
        outputs: &["one.o"],
        same: Same::Bytes,
    };
    ar_makes_a_library: Case {
        tool: "`ar rcs`",
        on_a_fifo: "hangs, with the archive as with a member",
        prepare: two_objects,
        inputs: &["one.o", "two.o"],
        steps: &[&["ar", "rcs", "both.a", "one.o", "two.o"]],
        outputs: &["both.a"],
        same: Same::Bytes,
    };
    zip_packs: Case {
        tool: "`zip o.zip F`",
        on_a_fifo: "hangs",
        prepare: words,
        inputs: &["words"],
        steps: &[&["zip", "-q", "-X", "o.zip", "words"]],
        outputs: &["o.zip"],
        same: Same::Bytes,
    };
    unzip_unpacks_to_a_stream: Case {
        tool: "`unzip -p i.zip`",
        on_a_fifo: "fails: no central directory",
        prepare: |pair| {
            words(pair);
            pair.make(&["zip", "-q", "-X", "i.zip", "words"], "i.zip");
        },
        inputs: &["i.zip"],
        steps: &[&["sh", "-c", "unzip -p i.zip > out"]],
        outputs: &["out"],
        same: Same::Bytes,
    };
    seven_zip_packs: Case {
        tool: "`7z a o.7z F`",
        on_a_fifo: "exits 0, and the member is empty",
        prepare: words,
        inputs: &["words"],
        steps: &[&["7z", "a", "-bd", "o.7z", "words"]],
        outputs: &["o.7z"],
        same: Same::Bytes,
    };
    sqlite_creates_and_inserts: Case {
        tool: "`sqlite3`: create, insert",
        on_a_fifo: "hangs",
        prepare: |_| {},
        inputs: &[],
        steps: &[
            &["sqlite3", "x.db", "create table t(a, b); create index i on t(b);"],
            &["sqlite3", "x.db", "begin; insert into t values(1, 'one'), (2, 'two'); commit; vacuum;"],
        ],
        outputs: &["x.db"],
        same: Same::Bytes,
    };
    sqlite_in_wal_mode: Case {
        tool: "`sqlite3` in WAL mode, which maps shared memory",
        on_a_fifo: "hangs",
        prepare: |_| {},
        inputs: &[],
        steps: &[
            &["sqlite3", "x.db", "pragma journal_mode=wal; create table t(a);"],
            // Two connections at once, of which one reads what the other has written to the log.
            &["sqlite3", "x.db", ".shell sqlite3 x.db 'insert into t values(7)'", "insert into t select a * 6 from t;"],
        ],
        outputs: &["x.db"],
        same: Same::Answer("the same rows", &["sqlite3", "x.db", "pragma journal_mode; select * from t;"]),
    };
    imagemagick_converts: Case {
        tool: "`convert p.jpg F.png` (ImageMagick)",
        on_a_fifo: "exits 0, replaces the FIFO, and the reader gets nothing",
        prepare: |pair| pair.make(&[CONVERT, "-size", "64x48", "plasma:red-blue", "p.jpg"], "p.jpg"),
        inputs: &["p.jpg"],
        steps: &[&[CONVERT, "p.jpg", "-rotate", "90", "F.png"]],
        outputs: &["F.png"],
        // A PNG of its holds the times of the files.
        same: Same::Answer("the same pixels", &["identify", "-format", "%m %w %h %#", "F.png"]),
    };
    ffmpeg_writes_mp4: Case {
        tool: "`ffmpeg … o.mp4`",
        on_a_fifo: "fails: could not write header",
        prepare: |_| {},
        inputs: &[],
        steps: &[&[
            "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=duration=1:size=64x64:rate=10", "-threads", "1",
            "-c:v", "mpeg4", "-movflags", "+faststart", "-fflags", "+bitexact", "-flags", "+bitexact", "o.mp4",
        ]],
        outputs: &["o.mp4"],
        same: Same::Bytes,
    };
    ffmpeg_writes_wav: Case {
        tool: "`ffmpeg … o.wav`",
        on_a_fifo: "exits 0, and both sizes in the header are ffffffff",
        prepare: |_| {},
        inputs: &[],
        steps: &[&["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", "-fflags", "+bitexact", "o.wav"]],
        outputs: &["o.wav"],
        same: Same::Bytes,
    };
    lame_writes_its_tag: Case {
        tool: "`lame -V2 i.wav o.mp3`",
        on_a_fifo: "exits 0, and the tag with length and seek table is wrong",
        prepare: |pair| pair.make(&["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=2", "i.wav"], "i.wav"),
        inputs: &["i.wav"],
        steps: &[&["lame", "--quiet", "-V2", "i.wav", "o.mp3"]],
        outputs: &["o.mp3"],
        same: Same::Bytes,
    };
    mksquashfs_makes_an_image: Case {
        tool: "`mksquashfs d o.sqfs`",
        on_a_fifo: "refuses: not block device or regular file",
        prepare: |pair| {
            pair.write("d/a", "a".repeat(100_000));
            pair.write("d/e/b", "b");
        },
        inputs: &["d"],
        steps: &[&[
            "mksquashfs", "d", "o.sqfs", "-no-progress", "-quiet", "-processors", "1", "-mkfs-time", "0", "-all-time", "0",
        ]],
        outputs: &["o.sqfs"],
        same: Same::Bytes,
    };
    qpdf_linearizes: Case {
        tool: "`qpdf i.pdf o.pdf`",
        on_a_fifo: "fails: illegal seek",
        prepare: |pair| {
            pair.write("book.tex", BOOK);
            pair.make(PDFLATEX, "book.pdf");
        },
        inputs: &["book.pdf"],
        steps: &[&["qpdf", "--linearize", "--deterministic-id", "book.pdf", "o.pdf"]],
        outputs: &["o.pdf"],
        same: Same::Bytes,
    };
    git_keeps_a_repository: Case {
        tool: "`git init`, `add`, `commit`, `gc`: lock files, links, renames",
        on_a_fifo: "`git add F` exits 0 and adds nothing",
        prepare: words,
        inputs: &["words"],
        steps: &[
            &["git", "init", "-q", "-b", "main", "r"],
            &["cp", "words", "r/words"],
            &["git", "-C", "r", "add", "words"],
            &[
                "env", "GIT_AUTHOR_DATE=@1700000000 +0000", "GIT_COMMITTER_DATE=@1700000000 +0000",
                "git", "-C", "r", "-c", "user.name=N", "-c", "user.email=n@example.com", "commit", "-q", "-m", "words",
            ],
            &["git", "-C", "r", "gc", "-q"],
        ],
        outputs: &["r"],
        same: Same::Answer(
            "the same commit and pack, and `git fsck` is content",
            &["sh", "-ec", "cd r; git fsck --strict --no-progress; git status --porcelain; git rev-parse HEAD; ls .git/objects/pack; git show HEAD"],
        ),
    };
    sed_edits_in_place: Case {
        tool: "`sed -i`",
        on_a_fifo: "refuses: not a regular file",
        prepare: words,
        inputs: &["words"],
        steps: &[&["sed", "-i.old", "s/word/WORD/", "words"]],
        outputs: &["words", "words.old"],
        same: Same::Bytes,
    };
    patch_applies: Case {
        tool: "`patch`",
        on_a_fifo: "refuses: not a regular file; the hunks go to a .rej",
        prepare: |pair| {
            words(pair);
            pair.write("changes", "--- words\n+++ words\n@@ -1,2 +1,2 @@\n-word 0\n+sword 0\n word 1\n");
        },
        inputs: &["words", "changes"],
        steps: &[&["patch", "-s", "-b", "words", "changes"]],
        outputs: &["words", "words.orig"],
        same: Same::Bytes,
    };
    tar_appends: Case {
        tool: "`tar rf`",
        on_a_fifo: "hangs",
        prepare: |pair| {
            words(pair);
            pair.write("more", "more words");
        },
        inputs: &["words", "more"],
        steps: &[&["tar", "cf", "o.tar", "words"], &["tar", "rf", "o.tar", "more"]],
        outputs: &["o.tar"],
        same: Same::Bytes,
    };
    a_program_that_was_just_compiled_runs: Case {
        tool: "`gcc -o program`, then `./program`",
        on_a_fifo: "cannot be linked (illegal seek), nor executed (permission denied)",
        prepare: |pair| pair.write("main.c", "#include <stdio.h>\nint main(void) { return !freopen(\"out\", \"w\", stdout) || puts(\"42\") < 0; }\n"),
        inputs: &["main.c"],
        steps: &[&["gcc", "-O2", "main.c", "-o", "program"], &["./program"]],
        outputs: &["out"],
        same: Same::Bytes,
    };
    cp_keeps_an_image_sparse: Case {
        tool: "`cp --reflink=auto --sparse=always` of a sparse image",
        on_a_fifo: "exits 0, and the reader gets every hole as zeros",
        prepare: |pair| {
            for directory in [pair.disk(), pair.ram()] {
                let image = std::fs::File::create(directory.join("image")).expect("an image");
                image.set_len(64 << 20).expect("a large hole");
                std::os::unix::fs::FileExt::write_all_at(&image, &[7; 5000], 20 << 20).expect("some bytes");
            }
        },
        inputs: &["image"],
        steps: &[&["cp", "--reflink=auto", "--sparse=always", "image", "copy"]],
        outputs: &["copy"],
        same: Same::BytesAndHoles,
    };
    pdflatex_in_three_passes: Case {
        tool: "`pdflatex` in three passes, with `makeindex`: .aux, .toc, .idx, .log",
        on_a_fifo: "hangs, with the .aux as with the .pdf",
        prepare: |pair| pair.write("book.tex", BOOK),
        inputs: &["book.tex"],
        steps: &[
            PDFLATEX,
            &["makeindex", "-q", "book.idx"],
            PDFLATEX,
            PDFLATEX,
        ],
        outputs: &["book.pdf", "book.aux", "book.toc", "book.ind"],
        same: Same::Bytes,
    };
}

/// Debian's: other programs of this name may come before it in PATH.
const CONVERT: &str = "/usr/bin/convert";

const PDFLATEX: &[&str] = &[
    "env",
    "SOURCE_DATE_EPOCH=1700000000",
    "FORCE_SOURCE_DATE=1",
    "pdflatex",
    "-interaction=nonstopmode",
    "-halt-on-error",
    "book.tex",
];

const BOOK: &str = r"\documentclass{article}
\usepackage{makeidx}
\makeindex
\begin{document}
\tableofcontents
\section{One}\label{one} As section~\ref{two} on page~\pageref{two} says.\index{saying}
\newpage
\section{Two}\label{two} As section~\ref{one} says.\index{repeating}
\printindex
\end{document}
";

fn words(pair: &Pair) {
    let lines: Vec<String> = (0..20_000)
        .map(|number| format!("word {number}\n"))
        .collect();
    pair.write("words", lines.concat());
}

fn two_objects(pair: &Pair) {
    for name in ["one", "two"] {
        pair.write(
            &format!("{name}.c"),
            format!("int {name}(int x) {{ return x + 1; }}\n"),
        );
        pair.make(&["gcc", "-c", &format!("{name}.c")], &format!("{name}.o"));
    }
}

/// The table in docs/tools.md is what is tested here, row for row.
#[test]
fn the_table_has_a_row_for_each() {
    let page = include_str!("../../docs/tools.md");
    let row = |case: &Case| {
        format!(
            "| {} | {} | {} |\n",
            case.tool,
            case.on_a_fifo,
            case.same.words()
        )
    };
    let rows: String = ALL.iter().map(row).collect();
    let table = format!("| tool | on a named pipe | in a job |\n| --- | --- | --- |\n{rows}");
    assert!(
        page.ends_with(&table),
        "docs/tools.md lacks, or says otherwise:\n{table}"
    );
}
