package sqlmodel

// selects reads a select with its set operations, order, limit and locks.
func (p *parser) selects() *selectStmt {
	s := p.setOperation(0)
	if s.order != nil || s.limit != nil || s.locks != nil || s.ctes != nil {
		if !p.is("order") && !p.is("limit") && !p.is("offset") && !p.is("for") {
			return s
		}
		p.refuse("a select in parentheses with clauses behind it")
	}
	if p.take("order", "by") {
		for {
			s.order = append(s.order, p.orderItem())
			if !p.take(",") {
				break
			}
		}
	}
	p.limits(s)
	for p.is("for") {
		s.locks = append(s.locks, p.lock())
	}
	p.limits(s)
	return s
}

func (p *parser) limits(s *selectStmt) {
	for {
		switch {
		case s.limit == nil && p.take("limit"):
			if s.limit = expr(eNull{}); !p.take("all") {
				s.limit = p.expr()
			}
		case s.offset == nil && p.take("offset"):
			s.offset = p.expr()
			if !p.take("rows") {
				p.take("row")
			}
		default:
			if p.is("fetch") {
				p.fail()
			}
			return
		}
	}
}

func (p *parser) orderItem() orderItem {
	o := orderItem{x: p.expr()}
	if p.take("desc") {
		o.desc, o.nullsFirst = true, true
	} else {
		p.take("asc")
	}
	if p.is("using") {
		p.refuse("order by using")
	}
	if p.take("nulls") {
		if o.nullsFirst = p.take("first"); !o.nullsFirst {
			p.want("last")
		}
	}
	return o
}

func (p *parser) lock() (l lockClause) {
	p.want("for")
	switch {
	case p.take("update"):
		l.mode = lockUpdate
	case p.take("no", "key", "update"):
		l.mode = lockNoKeyUpdate
	case p.take("share"):
		l.mode = lockShare
	case p.take("key", "share"):
		l.mode = lockKeyShare
	default:
		p.fail()
	}
	if p.take("of") {
		for {
			l.of = append(l.of, p.name())
			if !p.take(",") {
				break
			}
		}
	}
	if p.take("nowait") {
		l.policy = noWait
	} else if p.take("skip", "locked") {
		l.policy = skipLocked
	}
	return l
}

var setWords = [][]string{{"union", "except"}, {"intersect"}}

// setOperation reads union and except, which bind alike, above intersect.
func (p *parser) setOperation(level int) *selectStmt {
	one := func() *selectStmt {
		if level == 0 {
			return p.setOperation(1)
		}
		return p.simpleSelect()
	}
	s := one()
	for {
		op := p.oneOf(setWords[level]...)
		if op == "" {
			return s
		}
		all := p.take("all")
		if !all {
			p.take("distinct")
		}
		s = &selectStmt{op: op, all: all, left: s, right: one()}
	}
}

func (p *parser) simpleSelect() *selectStmt {
	defer p.deeper()()
	if p.take("(") {
		s, ok := p.query().(*selectStmt)
		if !ok {
			p.fail()
		}
		p.want(")")
		return s
	}
	s := &selectStmt{}
	if p.take("values") {
		for {
			p.want("(")
			var row []expr
			for {
				row = append(row, p.exprOrDefault())
				if !p.take(",") {
					break
				}
			}
			p.want(")")
			s.values = append(s.values, row)
			if !p.take(",") {
				return s
			}
		}
	}
	p.want("select")
	if p.take("distinct") {
		s.distinct = true
		if p.is("on") {
			p.refuse("distinct on")
		}
	} else {
		p.take("all")
	}
	if !p.is("from") && !p.is("where") && !p.is(")") && p.peek().kind != tokEnd && !p.is(";") {
		s.targets = p.targets()
	}
	if p.is("into") {
		p.refuse("select into")
	}
	if p.take("from") {
		s.from = p.fromList()
	}
	if p.take("where") {
		s.where = p.expr()
	}
	if p.take("group", "by") {
		p.take("all")
		s.group = p.exprs()
	}
	if p.take("having") {
		s.having = p.expr()
	}
	if p.is("window") {
		p.fail()
	}
	return s
}

func (p *parser) exprs() (list []expr) {
	for {
		if p.is("(", ")") || p.is("grouping", "sets") {
			p.refuse("grouping sets")
		}
		list = append(list, p.expr())
		if !p.take(",") {
			return list
		}
	}
}

func (p *parser) targets() (list []target) {
	for {
		list = append(list, p.target())
		if !p.take(",") {
			return list
		}
	}
}

func (p *parser) target() target {
	if p.take("*") {
		return target{star: true}
	}
	if p.isName() && p.ahead(1).text == "." && p.ahead(2).text == "*" && p.ahead(2).kind == tokSymbol {
		t := target{star: true, table: p.name()}
		p.at += 2
		return t
	}
	t := target{x: p.expr()}
	if p.take("as") {
		if p.peek().kind != tokWord && p.peek().kind != tokQuoted {
			p.fail()
		}
		t.name = p.next().text
	} else if p.isName() && p.peek().text != "over" && p.peek().text != "filter" && p.peek().text != "within" {
		t.name = p.next().text
	}
	return t
}

func (p *parser) fromList() (list []*fromItem) {
	for {
		list = append(list, p.join())
		if !p.take(",") {
			return list
		}
	}
}

func (p *parser) join() *fromItem {
	f := p.fromPrimary()
	for {
		switch {
		case p.take("cross", "join"):
			f = &fromItem{left: f, right: p.fromPrimary()}
			continue
		case p.take("inner", "join"), p.take("join"):
			f = &fromItem{left: f, right: p.fromPrimary()}
		case p.take("left", "join"), p.take("left", "outer", "join"):
			f = &fromItem{left: f, right: p.fromPrimary(), outer: true}
		case p.is("right"), p.is("full"), p.is("natural"):
			p.fail()
		default:
			return f
		}
		switch {
		case p.take("on"):
			f.on = p.expr()
		case p.is("using"):
			p.next()
			f.using = p.names()
			if p.is("as") {
				p.refuse("an alias of using")
			}
		default:
			p.fail()
		}
	}
}

func (p *parser) fromPrimary() *fromItem {
	defer p.deeper()()
	if p.is("lateral") || p.is("only") || p.is("rows", "from") {
		p.fail()
	}
	if p.take("(") {
		if p.is("select") || p.is("values") || p.is("with") || p.is("(") {
			q, ok := p.query().(*selectStmt)
			if !ok {
				p.fail()
			}
			p.want(")")
			f := &fromItem{sub: q, alias: p.alias()}
			if f.alias == "" {
				panic(parseError{stateError("42601", "subquery in FROM must have an alias")})
			}
			if p.is("(") {
				f.columns = p.names()
			}
			return f
		}
		f := p.join()
		p.want(")")
		if p.is("as") || p.isName() && !clauseWords[p.peek().text] {
			p.refuse("an alias of a join")
		}
		return f
	}
	f := &fromItem{table: p.relation()}
	if p.is("(") {
		p.refuse("functions in from, such as %s", f.table)
	}
	p.take("*")
	if p.is("tablesample") {
		p.fail()
	}
	if f.alias = p.alias(); f.alias != "" && p.is("(") {
		f.columns = p.names()
	}
	return f
}
