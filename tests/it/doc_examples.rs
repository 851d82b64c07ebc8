//! Every public item is shown by an example that runs.
//!
//! The sources are parsed, and what a user can name is followed from `lib.rs` on: public modules and re-exports, the
//! types, traits and functions in them, and the public methods. An item is shown when
//!
//! 1. its own documentation has an example that runs: no `no_run`, no `ignore`;
//! 2. or one on its type, on another method of its type, or in its module's documentation uses its name;
//! 3. or its documentation links to an item that has such an example.
//!
//! Variants, fields, constants and what a trait of somebody else's prescribes are no items of their own, and what is
//! `#[doc(hidden)]` is not public. What a documentation hides of an example (`# `) shows nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::slice;

use syn::{Attribute, File, ImplItem, Item, ItemImpl, Meta, Type, UseTree, Visibility};

/// Where something stands: the names of the modules down to it, and its own.
type Names = Vec<String>;

/// The documentation of one thing, and what matters of it.
#[derive(Clone, Debug, Default)]
struct Docs {
    text: String,
    hidden: bool,
}

/// A type, trait or function as it is defined, public or not.
#[derive(Debug)]
struct Definition {
    is_public: bool,
    is_type: bool,
    docs: Docs,
    place: String,
    /// Of a type: its public methods.
    methods: Vec<Method>,
}

#[derive(Debug)]
struct Method {
    name: String,
    docs: Docs,
    place: String,
}

#[derive(Debug, Default)]
struct Module {
    docs: Docs,
    /// The modules in it, and whether they are public.
    modules: BTreeMap<String, bool>,
    definitions: BTreeMap<String, Definition>,
    /// What `use` brings in: the name here, the path it stands for, and whether that is public.
    uses: Vec<(String, Names, bool)>,
}

/// A crate as far as its sources say.
#[derive(Debug, Default)]
struct Crate {
    modules: BTreeMap<Names, Module>,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Module(Names),
    Definition(Names),
}

impl Crate {
    /// Reads the sources below `root`, which holds `lib.rs`.
    fn read(root: &Path) -> Self {
        let mut it = Self::default();
        let mut impls = Vec::new();
        it.read_module(root, &root.join("lib.rs"), Names::new(), &mut impls);
        it.take_methods(impls);
        it
    }

    fn read_module(
        &mut self,
        root: &Path,
        file: &Path,
        names: Names,
        impls: &mut Vec<(Names, String, ItemImpl)>,
    ) {
        let text = fs::read_to_string(file).expect("a source file");
        let parsed: File = syn::parse_file(&text).expect("it compiles");
        let place = file.strip_prefix(root).expect("below the root").display();
        let place = format!("src/{place}");
        let mut module = Module {
            docs: Docs::of(&parsed.attrs),
            ..Module::default()
        };
        let mut below = Vec::new();
        for item in parsed.items {
            if is_for_tests(&item) {
                continue;
            }
            match item {
                Item::Mod(it) if it.content.is_none() => {
                    let name = it.ident.to_string();
                    let is_public = is_public(&it.vis) && !Docs::of(&it.attrs).hidden;
                    module.modules.insert(name.clone(), is_public);
                    below.push(name);
                }
                Item::Use(it) => {
                    let is_public = is_public(&it.vis) && !Docs::of(&it.attrs).hidden;
                    unfold(&it.tree, &mut Names::new(), &mut |name, path| {
                        module.uses.push((name, path, is_public));
                    });
                }
                Item::Impl(it) => impls.push((names.clone(), place.clone(), it)),
                item => module.define(&item, &place),
            }
        }
        self.modules.insert(names.clone(), module);
        let stem = file.file_stem().and_then(|it| it.to_str()).unwrap();
        let parent = file.parent().unwrap();
        let directory = match stem {
            "lib" | "mod" => parent.to_path_buf(),
            stem => parent.join(stem),
        };
        for name in below {
            let candidates: [PathBuf; 2] = [
                directory.join(format!("{name}.rs")),
                directory.join(&name).join("mod.rs"),
            ];
            let file = candidates.iter().find(|it| it.exists()).expect("a module");
            let names = [names.as_slice(), &[name]].concat();
            self.read_module(root, file, names, impls);
        }
    }

    /// Gives the methods of inherent implementations to their types, wherever they stand.
    fn take_methods(&mut self, impls: Vec<(Names, String, ItemImpl)>) {
        for (module, place, it) in impls {
            let Type::Path(of) = &*it.self_ty else {
                continue;
            };
            let path = of.path.segments.iter().map(|it| it.ident.to_string());
            let target = self.resolve(&module, &path.collect::<Names>());
            let (None, Some(Target::Definition(of))) = (&it.trait_, target) else {
                continue;
            };
            let definition = self.definition_mut(&of);
            for item in it.items {
                if let ImplItem::Fn(it) = item
                    && is_public(&it.vis)
                {
                    definition.methods.push(Method {
                        name: it.sig.ident.to_string(),
                        docs: Docs::of(&it.attrs),
                        place: place.clone(),
                    });
                }
            }
        }
    }

    fn definition(&self, names: &[String]) -> &Definition {
        let (name, module) = names.split_last().expect("a name");
        &self.modules[module].definitions[name]
    }

    fn definition_mut(&mut self, names: &[String]) -> &mut Definition {
        let (name, module) = names.split_last().expect("a name");
        let module = self.modules.get_mut(module).expect("it was read");
        module.definitions.get_mut(name).expect("it was defined")
    }

    /// What a path means in a module; nothing when it leads out of the crate.
    fn resolve(&self, module: &[String], path: &[String]) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Target::Module(Names::new()),
            "self" => Target::Module(module.to_vec()),
            "super" => Target::Module(module.split_last()?.1.to_vec()),
            name => self.named(module, name)?,
        };
        match start {
            _ if rest.is_empty() => Some(start),
            Target::Module(module) => self.resolve(&module, rest),
            Target::Definition(_) => None,
        }
    }

    fn named(&self, module: &[String], name: &str) -> Option<Target> {
        let names = || [module, &[name.to_owned()]].concat();
        let it = self.modules.get(module)?;
        if it.definitions.contains_key(name) {
            return Some(Target::Definition(names()));
        }
        if it.modules.contains_key(name) {
            return Some(Target::Module(names()));
        }
        let (_, path, _) = it.uses.iter().find(|(its, _, _)| its == name)?;
        // `use name::…` is somebody else's crate.
        (path[0] != name).then(|| self.resolve(module, path))?
    }

    /// Everything that a user can name, by where it is defined, with the module in which it is named.
    fn public(&self) -> BTreeMap<Names, Names> {
        let mut found = BTreeMap::new();
        let mut modules = vec![Names::new()];
        while let Some(names) = modules.pop() {
            let module = &self.modules[&names];
            if module.docs.hidden {
                continue;
            }
            let mut list = |it: Names| {
                if !self.definition(&it).docs.hidden {
                    found.insert(it, names.clone());
                }
            };
            for (name, definition) in &module.definitions {
                if definition.is_public {
                    list([names.as_slice(), slice::from_ref(name)].concat());
                }
            }
            for (_, path, is_public) in &module.uses {
                match self.resolve(&names, path) {
                    Some(Target::Definition(it)) if *is_public => list(it),
                    Some(Target::Module(it)) if *is_public => modules.push(it),
                    _ => {}
                }
            }
            let public = module.modules.iter().filter(|(_, is_public)| **is_public);
            modules
                .extend(public.map(|(name, _)| [names.as_slice(), slice::from_ref(name)].concat()));
        }
        found
    }
}

impl Module {
    fn define(&mut self, item: &Item, place: &str) {
        let (attributes, visibility, name, is_type) = match item {
            Item::Struct(it) => (&it.attrs, &it.vis, &it.ident, true),
            Item::Enum(it) => (&it.attrs, &it.vis, &it.ident, true),
            Item::Trait(it) => (&it.attrs, &it.vis, &it.ident, true),
            Item::Type(it) => (&it.attrs, &it.vis, &it.ident, true),
            Item::Fn(it) => (&it.attrs, &it.vis, &it.sig.ident, false),
            _ => return,
        };
        let definition = Definition {
            is_public: is_public(visibility),
            is_type,
            docs: Docs::of(attributes),
            place: place.to_owned(),
            methods: Vec::new(),
        };
        self.definitions.insert(name.to_string(), definition);
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_for_tests(item: &Item) -> bool {
    let attributes = match item {
        Item::Mod(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        _ => return false,
    };
    attributes.iter().any(|it| match &it.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

/// Every name that a `use` brings in, with its path.
fn unfold(tree: &UseTree, path: &mut Names, found: &mut impl FnMut(String, Names)) {
    match tree {
        UseTree::Path(it) => {
            path.push(it.ident.to_string());
            unfold(&it.tree, path, found);
            path.pop();
        }
        UseTree::Group(it) => it.items.iter().for_each(|it| unfold(it, path, found)),
        UseTree::Name(it) if it.ident == "self" => {
            let name = path.last().expect("self of something").clone();
            found(name, path.clone());
        }
        UseTree::Name(it) => {
            let name = it.ident.to_string();
            found(name.clone(), [path.as_slice(), &[name]].concat());
        }
        UseTree::Rename(it) => {
            let whole = [path.as_slice(), &[it.ident.to_string()]].concat();
            found(it.rename.to_string(), whole);
        }
        UseTree::Glob(_) => {}
    }
}

impl Docs {
    fn of(attributes: &[Attribute]) -> Self {
        let mut docs = Self::default();
        for attribute in attributes.iter().filter(|it| it.path().is_ident("doc")) {
            match &attribute.meta {
                Meta::List(list) => docs.hidden |= list.tokens.to_string() == "hidden",
                Meta::NameValue(it) => {
                    if let syn::Expr::Lit(it) = &it.value
                        && let syn::Lit::Str(line) = &it.lit
                    {
                        docs.text.push_str(&line.value());
                        docs.text.push('\n');
                    }
                }
                Meta::Path(_) => {}
            }
        }
        docs
    }

    /// What a reader sees of the examples that run.
    fn examples(&self) -> Vec<String> {
        let mut examples = Vec::new();
        let mut lines = self.text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            let Some(kind) = line.strip_prefix("```") else {
                continue;
            };
            let runs = matches!(kind, "" | "rust" | "should_panic" | "standalone_crate");
            let code = lines.by_ref().take_while(|line| *line != "```");
            let shown = code.filter(|line| *line != "#" && !line.starts_with("# "));
            let shown = shown.collect::<Vec<_>>().join("\n");
            if runs {
                examples.push(shown);
            }
        }
        examples
    }

    /// The items that it links to: `[`NAME`]` and `[…](NAME)`.
    fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for part in self.text.split('[').skip(1) {
            let Some((text, rest)) = part.split_once(']') else {
                continue;
            };
            let target = match rest.strip_prefix('(').and_then(|it| it.split_once(')')) {
                Some((target, _)) => target,
                None => text.trim_matches('`'),
            };
            links.push(target.trim_end_matches("()").to_owned());
        }
        links
    }
}

/// Whether code names this, as a whole word.
fn uses(code: &str, name: &str, is_method: bool) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let is_word = |it: char| it.is_alphanumeric() || it == '_';
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        whole && (!is_method || before.ends_with('.') || before.ends_with("::"))
    })
}

/// Something to be shown.
struct Shown<'c> {
    /// `Type`, `function` or `Type::method`.
    name: String,
    place: &'c str,
    docs: &'c Docs,
    /// Where its name may stand.
    near: Vec<String>,
    is_method: bool,
}

/// Each item without an example, with its place.
fn without_example(it: &Crate) -> Vec<String> {
    let mut items = Vec::new();
    for (names, module) in it.public() {
        let definition = it.definition(&names);
        let name = names.last().expect("a name");
        let methods = || definition.methods.iter().filter(|it| !it.docs.hidden);
        let of_type = methods().flat_map(|it| it.docs.examples());
        let of_type: Vec<_> = of_type.chain(definition.docs.examples()).collect();
        let near = it.modules[&module].docs.examples();
        items.push((
            Shown {
                name: name.clone(),
                place: &definition.place,
                docs: &definition.docs,
                near: match definition.is_type {
                    true => [near.as_slice(), &of_type].concat(),
                    false => near.clone(),
                },
                is_method: false,
            },
            // A type whose methods have examples is shown by them.
            definition.is_type && !of_type.is_empty(),
        ));
        for method in methods() {
            let shown = Shown {
                name: format!("{name}::{}", method.name),
                place: &method.place,
                docs: &method.docs,
                near: [near.as_slice(), &of_type].concat(),
                is_method: true,
            };
            items.push((shown, false));
        }
    }
    let has_example: HashMap<String, bool> = items
        .iter()
        .map(|(it, by_methods)| {
            (
                it.name.clone(),
                *by_methods || !it.docs.examples().is_empty(),
            )
        })
        .collect();
    let is_shown = |it: &Shown<'_>| {
        let (of, own) = it.name.rsplit_once("::").unwrap_or(("", &it.name));
        let linked = |link: String| {
            let link = link.replace("Self", of);
            let last = link.rsplit("::").take(2).collect::<Vec<_>>();
            let long = last.iter().rev().copied().collect::<Vec<_>>().join("::");
            [long.as_str(), last[0]]
                .iter()
                .any(|name| *name != it.name && has_example.get(*name) == Some(&true))
        };
        has_example[&it.name]
            || it.near.iter().any(|code| uses(code, own, it.is_method))
            || it.docs.links().into_iter().any(linked)
    };
    let missing = items.iter().filter(|(it, _)| !is_shown(it));
    missing
        .map(|(it, _)| format!("{}: {}", it.place, it.name))
        .collect()
}

#[test]
fn every_public_item_is_shown_by_an_example_that_runs() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = Crate::read(&sources);
    assert!(read.public().len() > 50, "the sources are not understood");
    let missing = without_example(&read);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
