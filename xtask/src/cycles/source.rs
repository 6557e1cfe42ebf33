//! Reads a crate: its modules, and the items that they define, import and name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path as FilePath;

use anyhow::{Context, Result, bail};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// The segments of a path as it is written, `["super", "graph", "Edge"]`.
pub(super) type Path = Vec<String>;

/// A module: a file, or an inline `mod` within one.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// The path relative to the folder of the crate's root.
    pub(super) file: String,
    pub(super) parent: Option<usize>,
    pub(super) children: BTreeMap<String, usize>,
    /// The names of the items that the module defines.
    pub(super) items: BTreeSet<String>,
    /// The names that imports and re-exports bind, with their paths.
    pub(super) imports: Vec<(String, Path)>,
    pub(super) globs: Vec<Path>,
    /// The paths that the code and private imports name.
    pub(super) named: BTreeSet<Path>,
}

/// Returns the modules of a crate without its tests. The first one is the root.
pub(super) fn read(root: &FilePath) -> Result<Vec<Module>> {
    let folder = root.parent().context("the root of a crate lies in no folder")?;
    let mut reader = Reader { folder, modules: Vec::new() };
    reader.file(root, folder, None)?;
    Ok(reader.modules)
}

struct Reader<'a> {
    folder: &'a FilePath,
    modules: Vec<Module>,
}

impl Reader<'_> {
    /// Reads a file whose child modules are in the folder `below`.
    fn file(&mut self, file: &FilePath, below: &FilePath, parent: Option<usize>) -> Result<usize> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let syntax =
            syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))?;
        let name = file.strip_prefix(self.folder).unwrap_or(file).display().to_string();
        self.module(&name, &syntax.items, below, parent)
    }

    fn module(
        &mut self,
        file: &str,
        items: &[Item],
        below: &FilePath,
        parent: Option<usize>,
    ) -> Result<usize> {
        let mut module = Module { file: file.to_owned(), parent, ..Module::default() };
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            module.items.extend(defined(item));
            module.visit_item(item);
        }
        let number = self.modules.len();
        self.modules.push(module);
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            let Item::Mod(child) = item else { continue };
            let name = child.ident.to_string();
            let folder = below.join(&name);
            let child = match &child.content {
                Some((_, items)) => self.module(file, items, &folder, Some(number))?,
                None => self.file(&file_of(below, &name)?, &folder, Some(number))?,
            };
            self.modules[number].children.insert(name, child);
        }
        Ok(number)
    }
}

fn file_of(folder: &FilePath, module: &str) -> Result<std::path::PathBuf> {
    let candidates = [folder.join(format!("{module}.rs")), folder.join(module).join("mod.rs")];
    match candidates.iter().find(|file| file.is_file()) {
        Some(file) => Ok(file.clone()),
        None => bail!("module {module} has no file in {}", folder.display()),
    }
}

/// Collects the paths that the code of a module names.
impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast Item) {
        // An inline module is read separately.
        if !is_test(attributes(item)) && !matches!(item, Item::Mod(_)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        if import.leading_colon.is_none() {
            let is_private = matches!(import.vis, Visibility::Inherited);
            self.import(&mut Path::new(), &import.tree, is_private);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.named.insert(path.segments.iter().map(|one| one.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

impl Module {
    fn import(&mut self, prefix: &mut Path, tree: &UseTree, is_private: bool) {
        let (name, alias) = match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.import(prefix, &path.tree, is_private);
                prefix.pop();
                return;
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(prefix, tree, is_private));
            }
            UseTree::Glob(_) => return self.globs.push(prefix.clone()),
            UseTree::Name(name) => (&name.ident, &name.ident),
            UseTree::Rename(rename) => (&rename.ident, &rename.rename),
        };
        let mut path = prefix.clone();
        // `use graph::{self}`
        let is_prefix = name == "self" && !path.is_empty();
        if !is_prefix {
            path.push(name.to_string());
        }
        if is_private {
            self.named.insert(path.clone());
        }
        let alias = if alias == "self" { path.last().cloned() } else { Some(alias.to_string()) };
        self.imports.extend(alias.map(|alias| (alias, path)));
    }

    /// Finds the paths in the arguments of a macro, which the parser leaves as tokens.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Path::new();
        // The number of colons after the last name, and whether the next name is a field or a method.
        let (mut colons, mut is_member) = (0, false);
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.named.insert(std::mem::take(&mut path));
                    }
                    if !is_member {
                        path.push(name.to_string());
                    }
                    (colons, is_member) = (0, false);
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.named.insert(std::mem::take(&mut path));
                    colons = 0;
                    is_member = matches!(&other, TokenTree::Punct(mark) if mark.as_char() == '.');
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.named.insert(path);
    }
}

/// Returns whether an item is compiled only for tests.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Ok(list) = attribute.meta.require_list() else { return false };
        list.path.is_ident("cfg") && needs_test(list.tokens.clone())
    })
}

/// Returns whether a condition is `test`, or an `all` that contains it.
fn needs_test(condition: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = condition.into_iter().collect();
    match &tokens[..] {
        [TokenTree::Ident(name)] => name == "test",
        [TokenTree::Ident(name), TokenTree::Group(all)] if name == "all" => all
            .stream()
            .into_iter()
            .any(|token| matches!(token, TokenTree::Ident(name) if name == "test")),
        _ => false,
    }
}

/// Returns the name that an item defines. Modules and imports are collected separately.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
