package sqlmodel

// expr is an expression as it is written: one of the types below.
type expr any

type (
	eNumber struct{ text string }
	eString struct{ text string }
	eBool   struct{ value bool }
	eNull   struct{}
	eParam  struct{ n int }
	eColumn struct{ table, name string }
	eUnary  struct {
		op string
		x  expr
	}
	eBinary struct {
		op   string
		l, r expr
	}
	eIsNull struct {
		x   expr
		not bool
	}
	// eIsBool is x is [not] true, false or unknown.
	eIsBool struct {
		x    expr
		what string
		not  bool
	}
	eDistinct struct {
		l, r expr
		not  bool
	}
	eIn struct {
		x    expr
		list []expr
		sub  *selectStmt
		not  bool
	}
	eCase struct {
		arg   expr
		whens [][2]expr
		other expr
	}
	eCast struct {
		x expr
		t typ
	}
	eCall struct {
		name     string
		args     []expr
		star     bool
		distinct bool
		filter   expr
	}
	eSub     struct{ sel *selectStmt }
	eExists  struct{ sel *selectStmt }
	eDefault struct{}
)

type target struct {
	x     expr
	name  string
	star  bool
	table string // of a star
}

type cte struct {
	name    string
	columns []string
	body    stmt
}

type orderItem struct {
	x          expr
	desc       bool
	nullsFirst bool
}

// A fromItem is a table, a subquery or a join.
type fromItem struct {
	table, alias string
	columns      []string
	sub          *selectStmt
	left, right  *fromItem
	outer        bool // a left join
	on           expr
	using        []string
}

type lockClause struct {
	mode   lockMode
	of     []string
	policy waitPolicy
}

// stmt is a statement: one of the types below.
type stmt any

type selectStmt struct {
	ctes          []cte
	distinct      bool
	targets       []target
	from          []*fromItem
	where         expr
	group         []expr
	having        expr
	values        [][]expr
	op            string // union, intersect or except of left and right
	all           bool
	left, right   *selectStmt
	order         []orderItem
	limit, offset expr
	locks         []lockClause
}

type setItem struct {
	column string
	x      expr
}

type conflictClause struct {
	columns    []expr
	where      expr // of the index
	constraint string
	update     bool
	sets       []setItem
	filter     expr
}

type insertStmt struct {
	ctes       []cte
	table      string
	alias      string
	columns    []string
	source     *selectStmt // nil for default values
	overriding bool
	conflict   *conflictClause
	returning  []target
}

type updateStmt struct {
	ctes         []cte
	table, alias string
	sets         []setItem
	from         []*fromItem
	where        expr
	returning    []target
}

type deleteStmt struct {
	ctes         []cte
	table, alias string
	using        []*fromItem
	where        expr
	returning    []target
}

// controlStmt begins or ends a transaction or a part of one.
type controlStmt struct {
	verb       string // begin, commit, rollback, savepoint, release, rollback to
	name       string
	repeatable bool
	readOnly   bool
}

type columnDef struct {
	name     string
	t        typ
	notNull  bool
	fallback expr // default
	identity string
	serial   bool
}

type constraintDef struct {
	kind       string // primary key, unique, check, foreign key
	name       string
	columns    []string
	check      expr
	ref        string
	refColumns []string
	onDelete   string
	onUpdate   string
}

type createTable struct {
	name        string
	ifNotExists bool
	columns     []columnDef
	constraints []constraintDef
}

type createIndex struct {
	name, table string
	unique      bool
	keys        []expr
	where       expr
	ifNotExists bool
}

type createSequence struct {
	name        string
	start, step int64
	ifNotExists bool
}

type alterTable struct {
	table       string
	constraints []constraintDef
}
