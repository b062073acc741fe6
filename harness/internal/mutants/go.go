package mutants

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

// others are what a Go operator is turned into, and the kind of that.
var others = map[token.Token][]struct {
	op   token.Token
	kind string
}{
	token.EQL:        {{token.NEQ, "negated"}},
	token.NEQ:        {{token.EQL, "negated"}},
	token.LSS:        {{token.LEQ, "shifted"}, {token.GEQ, "negated"}},
	token.LEQ:        {{token.LSS, "shifted"}, {token.GTR, "negated"}},
	token.GTR:        {{token.GEQ, "shifted"}, {token.LEQ, "negated"}},
	token.GEQ:        {{token.GTR, "shifted"}, {token.LSS, "negated"}},
	token.LAND:       {{token.LOR, "joined"}},
	token.LOR:        {{token.LAND, "joined"}},
	token.ADD:        {{token.SUB, "arithmetic"}},
	token.SUB:        {{token.ADD, "arithmetic"}},
	token.MUL:        {{token.QUO, "arithmetic"}},
	token.QUO:        {{token.MUL, "arithmetic"}},
	token.REM:        {{token.MUL, "arithmetic"}},
	token.ADD_ASSIGN: {{token.SUB_ASSIGN, "arithmetic"}},
	token.SUB_ASSIGN: {{token.ADD_ASSIGN, "arithmetic"}},
	token.INC:        {{token.DEC, "arithmetic"}},
	token.DEC:        {{token.INC, "arithmetic"}},
}

// goFile collects the mutants of one file.
type goFile struct {
	fset *token.FileSet
	src  []byte
	made []Mutant
}

func ofGo(file string, src []byte) ([]Mutant, error) {
	f := goFile{fset: token.NewFileSet(), src: src}
	parsed, err := parser.ParseFile(f.fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, decl := range parsed.Decls {
		f.walk(decl, nil)
	}
	return f.made, nil
}

// walk visits a node; results are those of the function that it stands in.
func (f *goFile) walk(node ast.Node, results *ast.FieldList) {
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Body != nil && (n.Recv == nil || n.Name.Name != "Error") {
				f.walk(n.Body, n.Type.Results)
			}
			return false
		case *ast.FuncLit:
			f.walk(n.Body, n.Type.Results)
			return false
		case *ast.GenDecl:
			return n.Tok != token.IMPORT && n.Tok != token.TYPE
		case *ast.CallExpr:
			if forPeople(n) {
				return false
			}
			f.swapped(n)
		case *ast.BlockStmt:
			f.removed(n.List)
		case *ast.CaseClause:
			f.removed(n.Body)
		case *ast.CommClause:
			f.removed(n.Body)
		case *ast.ReturnStmt:
			f.noError(n, results)
		default:
			f.expression(n)
		}
		return true
	})
}

func (f *goFile) expression(n ast.Node) {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		if d, ok := n.X.(*ast.BasicLit); ok && n.Op == token.MUL && d.Kind == token.INT && duration(n.Y) {
			f.constant(d, "0")
			return
		}
		if isNil(n.Y) && isNamed(n.X, "err") {
			return // never does this
		}
		if n.Op == token.ADD && (isText(n.X) || isText(n.Y)) {
			return // no compiler takes the others
		}
		f.operator(n.OpPos, n.Op)
	case *ast.IncDecStmt:
		f.operator(n.TokPos, n.Tok)
	case *ast.AssignStmt:
		f.operator(n.TokPos, n.Tok)
	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			f.made = append(f.made, f.edit(n.Pos(), n.X.Pos(), "", "negated"))
		}
	case *ast.IfStmt:
		f.condition(n.Cond)
	case *ast.BasicLit:
		switch {
		case n.Kind == token.INT && n.Value == "0":
			f.constant(n, "1")
		case n.Kind == token.INT && n.Value == "1":
			f.constant(n, "0")
		case n.Kind == token.STRING:
			f.sql(n)
		}
	case *ast.Ident:
		switch n.Name {
		case "true":
			f.constant(n, "false")
		case "false":
			f.constant(n, "true")
		}
	}
}

// operator adds what an operator may be turned into.
func (f *goFile) operator(at token.Pos, op token.Token) {
	for _, o := range others[op] {
		f.made = append(f.made, f.edit(at, at+token.Pos(len(op.String())), o.op.String(), o.kind))
	}
}

// condition adds an if that is never taken: its early return, its branch is gone, and
// what it names is still used.
func (f *goFile) condition(cond ast.Expr) {
	start, end := f.offset(cond.Pos()), f.offset(cond.End())
	f.made = append(f.made, Mutant{Kind: "never", Start: start, End: end, New: "false && (" + string(f.src[start:end]) + ")"})
}

// removed adds each statement that can go by itself. Line breaks stay, so that no
// other line has another number.
func (f *goFile) removed(statements []ast.Stmt) {
	for _, s := range statements {
		kind := "removed"
		switch s := s.(type) {
		case *ast.ExprStmt:
			if call, ok := s.X.(*ast.CallExpr); ok && forPeople(call) {
				continue
			}
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE || blank(s.Lhs) {
				continue
			}
		case *ast.DeferStmt, *ast.GoStmt, *ast.SendStmt, *ast.IncDecStmt:
		case *ast.BranchStmt:
			if s.Tok == token.FALLTHROUGH {
				continue
			}
		default:
			continue
		}
		start, end := f.offset(s.Pos()), f.offset(s.End())
		f.made = append(f.made, Mutant{Kind: kind, Start: start, End: end, New: strings.Repeat("\n", bytes.Count(f.src[start:end], []byte("\n")))})
	}
}

// noError adds a return whose error is forgotten.
func (f *goFile) noError(r *ast.ReturnStmt, results *ast.FieldList) {
	if results == nil || len(results.List) == 0 || len(r.Results) != results.NumFields() {
		return
	}
	last := r.Results[len(r.Results)-1]
	if isNamed(results.List[len(results.List)-1].Type, "error") && !isNil(last) {
		start, end := f.offset(last.Pos()), f.offset(last.End())
		f.made = append(f.made, Mutant{Kind: "no-error", Start: start, End: end, New: "nil" + strings.Repeat("\n", bytes.Count(f.src[start:end], []byte("\n")))})
	}
}

// swapped adds neighbouring arguments in the other order, where both are names: the
// compiler sorts out those of different types.
func (f *goFile) swapped(call *ast.CallExpr) {
	if isNamed(call.Fun, "min") || isNamed(call.Fun, "max") {
		return // they don't care
	}
	for i := 1; i < len(call.Args); i++ {
		a, b := call.Args[i-1], call.Args[i]
		start, end := f.offset(a.Pos()), f.offset(b.End())
		first, second := string(f.src[start:f.offset(a.End())]), string(f.src[f.offset(b.Pos()):end])
		if first == second || first == "ctx" || !named(a) || !named(b) {
			continue
		}
		between := string(f.src[f.offset(a.End()):f.offset(b.Pos())])
		f.made = append(f.made, Mutant{Kind: "swapped", Start: start, End: end, New: second + between + first})
	}
}

// sql adds the mutants of a literal that holds SQL.
func (f *goFile) sql(n *ast.BasicLit) {
	text := n.Value[1 : len(n.Value)-1]
	if n.Value[0] == '"' && strings.Contains(text, `\`) || !looksLikeSQL(text) {
		return
	}
	at := f.offset(n.Pos()) + 1
	for _, m := range ofSQL([]byte(text), false) {
		m.Start, m.End = m.Start+at, m.End+at
		f.made = append(f.made, m)
	}
}

func (f *goFile) constant(n ast.Node, text string) {
	f.made = append(f.made, f.edit(n.Pos(), n.End(), text, "constant"))
}

func (f *goFile) edit(from, to token.Pos, text, kind string) Mutant {
	return Mutant{Kind: kind, Start: f.offset(from), End: f.offset(to), New: text}
}

func (f *goFile) offset(p token.Pos) int { return f.fset.Position(p).Offset }

// forPeople reports whether a call writes what only people read: a log line, or the
// text of an error.
func forPeople(call *ast.CallExpr) bool {
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return isNamed(call.Fun, "panic")
	}
	switch fun.Sel.Name {
	case "Errorf":
		return isNamed(fun.X, "fmt")
	case "New":
		return isNamed(fun.X, "errors")
	case "Debug", "Info", "Warn", "Error", "DebugContext", "InfoContext", "WarnContext", "ErrorContext", "LogAttrs":
		x, ok := fun.X.(*ast.SelectorExpr)
		return len(call.Args) > 0 && (isNamed(fun.X, "slog") || isLogger(fun.X) || ok && isLogger(x.Sel))
	}
	return false
}

func isLogger(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && strings.Contains(strings.ToLower(id.Name), "log")
}

func isNamed(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func isNil(e ast.Expr) bool { return isNamed(e, "nil") }

// isText reports whether an expression is a string by what it is written of.
func isText(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Kind == token.STRING
	case *ast.BinaryExpr:
		return e.Op == token.ADD && (isText(e.X) || isText(e.Y))
	}
	return false
}

func named(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return !isNil(e) && e.Name != "true" && e.Name != "false"
	case *ast.SelectorExpr:
		return true
	}
	return false
}

func blank(left []ast.Expr) bool {
	for _, e := range left {
		if !isNamed(e, "_") {
			return false
		}
	}
	return true
}

// duration reports whether an expression is a unit of package time.
func duration(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && isNamed(s.X, "time")
}
