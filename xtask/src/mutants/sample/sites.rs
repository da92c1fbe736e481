//! Where a mutant can be: what `syn` finds in a file, and what stands there instead. Tests, constants, patterns and macros are left out.

use std::ops::Range;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, BinOp, Block, Expr, Lit, Pat, ReturnType, Signature, Stmt, Type, UnOp};

/// One change to one place of a file.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) line: usize,
    pub(super) what: String,
    /// What it replaces, in bytes; nothing where the range is empty.
    pub(super) range: Range<usize>,
    /// The text instead, in parts, see `Part`.
    pub(super) parts: Vec<Part>,
}

/// A part of the text that stands instead.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Text(String),
    /// Whether the mutant is the chosen one.
    Chosen,
    /// The file's own text.
    Old(Range<usize>),
    /// The same with the mutants in it.
    Mutated(Range<usize>),
}

/// All sites of a file.
pub(super) fn sites(text: &str) -> Result<Vec<Site>, syn::Error> {
    let file = syn::parse_file(text)?;
    let mut finder = Finder {
        sites: Vec::new(),
        text,
    };
    finder.visit_file(&file);
    Ok(finder.sites)
}

struct Finder<'t> {
    sites: Vec<Site>,
    text: &'t str,
}

fn text(text: impl Into<String>) -> Part {
    Part::Text(text.into())
}

impl Finder<'_> {
    fn add(&mut self, span: Span, range: Range<usize>, what: impl Into<String>, parts: Vec<Part>) {
        self.sites.push(Site {
            line: span.start().line,
            what: what.into(),
            range,
            parts,
        });
    }

    /// An expression that is another one when it is chosen.
    fn instead(&mut self, of: &impl Spanned, what: &str, other: Vec<Part>) {
        let range = of.span().byte_range();
        let mut parts = vec![text("(if "), Part::Chosen, text(" { ")];
        parts.extend(other);
        parts.extend([
            text(" } else { "),
            Part::Mutated(range.clone()),
            text(" })"),
        ]);
        let shown = self.text[range.clone()].split_whitespace();
        let shown: Vec<_> = shown.take(8).collect();
        let what = format!("{what}: {}", shown.join(" "));
        self.add(of.span(), range, what, parts);
    }

    fn operator(&mut self, of: &Expr, left: &Expr, right: &Expr, operator: &str) {
        let other = vec![
            Part::Old(left.span().byte_range()),
            text(format!(" {operator} ")),
            Part::Old(right.span().byte_range()),
        ];
        self.instead(of, &format!("{operator} instead"), other);
    }

    /// A condition without `let` that is as it is, or always true, or always false.
    fn forced(&mut self, condition: &Expr, also_true: bool) {
        let range = condition.span().byte_range();
        let (old, span) = (Part::Mutated(range.clone()), condition.span());
        if also_true && !has_let(condition) {
            let parts = vec![
                text("("),
                Part::Chosen,
                text(" || ("),
                old.clone(),
                text("))"),
            ];
            self.add(span, range.clone(), "a condition is true", parts);
        }
        let (open, close) = if has_let(condition) {
            ("", "")
        } else {
            ("(", ")")
        };
        let parts = vec![
            text("!"),
            Part::Chosen,
            text(" && "),
            text(open),
            old,
            text(close),
        ];
        self.add(span, range, "a condition is false", parts);
    }

    /// A function that gives something plain at once.
    fn body(&mut self, signature: &Signature, block: &Block) {
        if signature.constness.is_some() || signature.ident == "main" {
            return;
        }
        let at = block.brace_token.span.open().byte_range().end;
        for value in plain(signature) {
            let parts = vec![
                text(" if "),
                Part::Chosen,
                text(format!(" {{ return {value}; }}")),
            ];
            let what = format!("{} returns {value} at once", signature.ident);
            self.add(signature.ident.span(), at..at, what, parts);
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_left_out(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_left_out(&item.attrs) && item.sig.constness.is_none() {
            self.body(&item.sig, &item.block);
            self.visit_block(&item.block);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_left_out(&item.attrs) && item.sig.constness.is_none() {
            self.body(&item.sig, &item.block);
            self.visit_block(&item.block);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = item.default.as_ref().filter(|_| !is_left_out(&item.attrs)) {
            self.body(&item.sig, block);
            self.visit_block(block);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_left_out(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_pat(&mut self, _: &'ast Pat) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
    fn visit_path(&mut self, _: &'ast syn::Path) {}
    fn visit_expr_repeat(&mut self, _: &'ast syn::ExprRepeat) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if let Some(init) = &local.init {
            self.visit_expr(&init.expr);
            if let Some((_, diverge)) = &init.diverge {
                self.visit_expr(diverge);
            }
        }
    }

    fn visit_stmt(&mut self, stmt: &'ast Stmt) {
        if let Stmt::Expr(expr, Some(_)) = stmt
            && is_act(expr)
        {
            let range = stmt.span().byte_range();
            let parts = vec![
                text("if !"),
                Part::Chosen,
                text(" { "),
                Part::Mutated(range.clone()),
                text(" }"),
            ];
            let line = self.text[range.clone()].lines().next().unwrap_or_default();
            let what = format!("left out: {line}");
            self.add(stmt.span(), range, what, parts);
        }
        visit::visit_stmt(self, stmt);
    }

    fn visit_expr_if(&mut self, expr: &'ast syn::ExprIf) {
        self.forced(&expr.cond, true);
        visit::visit_expr_if(self, expr);
    }

    fn visit_expr_while(&mut self, expr: &'ast syn::ExprWhile) {
        self.forced(&expr.cond, false);
        visit::visit_expr_while(self, expr);
    }

    fn visit_expr_match(&mut self, expr: &'ast syn::ExprMatch) {
        let last = expr.arms.len().saturating_sub(1);
        let rest = expr.arms.last().is_some_and(|arm| match &arm.pat {
            Pat::Wild(_) => true,
            Pat::Ident(ident) => {
                ident.subpat.is_none() && ident.ident.to_string().starts_with(char::is_lowercase)
            }
            _ => false,
        });
        for (number, arm) in expr.arms.iter().enumerate() {
            match &arm.guard {
                Some((_, guard)) => self.forced(guard, true),
                None if rest && number < last => {
                    let at = arm.pat.span().byte_range().end;
                    let parts = vec![text(" if !"), Part::Chosen];
                    self.add(arm.pat.span(), at..at, "an arm is left out", parts);
                }
                None => {}
            }
        }
        visit::visit_expr_match(self, expr);
    }

    fn visit_expr_binary(&mut self, expr: &'ast syn::ExprBinary) {
        let others: &[&str] = match expr.op {
            BinOp::Eq(_) => &["!="],
            BinOp::Ne(_) => &["=="],
            BinOp::Lt(_) => &["<=", ">="],
            BinOp::Le(_) => &["<", ">"],
            BinOp::Gt(_) => &[">=", "<="],
            BinOp::Ge(_) => &[">", "<"],
            BinOp::And(_) if !has_let(&expr.left) && !has_let(&expr.right) => &["||"],
            BinOp::Or(_) => &["&&"],
            BinOp::Add(_) => &["-"],
            BinOp::Sub(_) => &["+"],
            BinOp::Mul(_) => &["+"],
            BinOp::Div(_) => &["*"],
            BinOp::Rem(_) => &["/"],
            BinOp::AddAssign(_) => &["-="],
            BinOp::SubAssign(_) => &["+="],
            _ => &[],
        };
        let whole = Expr::Binary(expr.clone());
        for other in others {
            self.operator(&whole, &expr.left, &expr.right, other);
        }
        if matches!(expr.op, BinOp::Add(_)) {
            let left = vec![Part::Old(expr.left.span().byte_range())];
            self.instead(&whole, "nothing is added", left);
        }
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_unary(&mut self, expr: &'ast syn::ExprUnary) {
        if matches!(expr.op, UnOp::Not(_)) && !has_let(&expr.expr) {
            let inner = vec![Part::Old(expr.expr.span().byte_range())];
            self.instead(expr, "without !", inner);
        }
        visit::visit_expr_unary(self, expr);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let name = call.method.to_string();
        let swaps = [
            ("min", "max"),
            ("any", "all"),
            ("is_some", "is_none"),
            ("is_ok", "is_err"),
            ("is_some_and", "is_none_or"),
            ("fetch_add", "fetch_sub"),
        ];
        let other = swaps.iter().find_map(|&(one, two)| match () {
            () if name == one => Some(two),
            () if name == two => Some(one),
            () => None,
        });
        if let Some(other) = other {
            let (whole, method) = (call.span().byte_range(), call.method.span().byte_range());
            let parts = vec![
                Part::Old(whole.start..method.start),
                text(other),
                Part::Old(method.end..whole.end),
            ];
            self.instead(call, &format!("{other} instead"), parts);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_lit(&mut self, expr: &'ast syn::ExprLit) {
        match &expr.lit {
            Lit::Int(_) => {
                let old = expr.span().byte_range();
                self.instead(expr, "one more", vec![Part::Old(old), text(" + 1")]);
            }
            Lit::Bool(lit) => {
                let other = (!lit.value).to_string();
                self.instead(expr, "the other one", vec![text(other)]);
            }
            _ => {}
        }
    }
}

/// Whether an expression is done for what it does.
fn is_act(expr: &Expr) -> bool {
    match expr {
        Expr::Call(_) | Expr::MethodCall(_) | Expr::Assign(_) => true,
        Expr::Binary(binary) => {
            matches!(binary.op, BinOp::AddAssign(_) | BinOp::SubAssign(_))
        }
        Expr::Await(inner) => is_act(&inner.base),
        Expr::Try(inner) => is_act(&inner.expr),
        _ => false,
    }
}

fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

/// Tests, and what is not for this system.
fn is_left_out(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let is_test = path
            .segments
            .last()
            .is_some_and(|last| last.ident == "test");
        let syn::Meta::List(list) = &attribute.meta else {
            return is_test;
        };
        let tokens = list.tokens.to_string();
        let foreign = tokens.contains("not (target_os") || tokens.contains("not (unix");
        let words = tokens.split(|c: char| !c.is_alphanumeric() && c != '_');
        let mut words = words.filter(|word| !word.is_empty());
        path.is_ident("cfg") && (foreign || words.any(|word| word == "test"))
    })
}

/// Values that a function of this signature can give without doing anything.
fn plain(signature: &Signature) -> Vec<&'static str> {
    let ReturnType::Type(_, of) = &signature.output else {
        return vec![""];
    };
    let path = match &**of {
        Type::Path(path) => &path.path,
        _ => return Vec::new(),
    };
    let Some(last) = path.segments.last() else {
        return Vec::new();
    };
    let takes_self = signature
        .receiver()
        .is_some_and(|receiver| receiver.reference.is_none() && receiver.colon_token.is_none());
    match last.ident.to_string().as_str() {
        "bool" => vec!["true", "false"],
        "u8" | "u16" | "u32" | "u64" | "usize" => vec!["0", "1"],
        "Option" => vec!["None"],
        "Vec" => vec!["Vec::new()"],
        "String" => vec!["String::new()"],
        "Duration" => vec!["std::time::Duration::ZERO"],
        "Result" => vec!["Ok(())"],
        "Self" if takes_self => vec!["self"],
        _ => Vec::new(),
    }
}
