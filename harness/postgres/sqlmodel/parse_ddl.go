package sqlmodel

func (p *parser) create() stmt {
	p.want("create")
	switch {
	case p.take("table"):
		return p.createTable()
	case p.take("unique", "index"):
		return p.createIndex(true)
	case p.take("index"):
		return p.createIndex(false)
	case p.take("sequence"):
		return p.createSequence()
	}
	p.refuse("create %s", p.peek().text)
	return nil
}

func (p *parser) ifNotExists() bool { return p.take("if", "not", "exists") }

func (p *parser) createTable() stmt {
	c := &createTable{ifNotExists: p.ifNotExists(), name: p.relation()}
	if p.is("as") || p.is("of") || p.is("partition") {
		p.refuse("create table … %s", p.peek().text)
	}
	p.want("(")
	for !p.is(")") {
		if k, ok := p.tableConstraint(); ok {
			c.constraints = append(c.constraints, k)
		} else {
			col, more := p.columnDef()
			c.columns, c.constraints = append(c.columns, col), append(c.constraints, more...)
		}
		if !p.take(",") {
			break
		}
	}
	p.want(")")
	if t := p.peek(); t.kind == tokWord {
		p.refuse("create table … %s", t.text)
	}
	return c
}

func (p *parser) tableConstraint() (c constraintDef, ok bool) {
	if p.take("constraint") {
		c.name = p.name()
		ok = true
	}
	switch {
	case p.take("primary", "key"):
		c.kind, c.columns = "primary key", p.names()
	case p.take("unique"):
		if p.is("nulls") {
			p.refuse("unique nulls not distinct")
		}
		c.kind, c.columns = "unique", p.names()
	case p.is("check"):
		c.kind, c.check = "check", p.check()
	case p.take("foreign", "key"):
		c.kind, c.columns = "foreign key", p.names()
		p.references(&c)
	case p.is("exclude"), p.is("like"):
		p.refuse("create table with %s", p.peek().text)
	case ok:
		p.fail()
	default:
		return c, false
	}
	p.notDeferrable()
	return c, true
}

func (p *parser) notDeferrable() {
	p.take("not", "deferrable")
	if p.is("deferrable") || p.is("initially") {
		p.fail()
	}
	if p.is("not", "valid") || p.is("using") || p.is("include") {
		p.refuse("constraints with %s", p.peek().text)
	}
}

func (p *parser) check() expr {
	p.want("check")
	p.want("(")
	x := p.expr()
	p.want(")")
	return x
}

func (p *parser) references(c *constraintDef) {
	p.want("references")
	c.ref = p.relation()
	if p.is("(") {
		c.refColumns = p.names()
	}
	if p.is("match") {
		p.refuse("foreign keys with match")
	}
	for p.take("on") {
		which := p.oneOf("delete", "update")
		if which == "" {
			p.fail()
		}
		action := ""
		switch {
		case p.take("cascade"):
			action = "cascade"
		case p.take("set", "null"):
			action = "set null"
		case p.take("restrict"):
			action = "restrict"
		case p.take("no", "action"):
		case p.is("set", "default"):
			p.refuse("foreign keys with set default")
		default:
			p.fail()
		}
		if which == "delete" {
			c.onDelete = action
		} else {
			c.onUpdate = action
		}
	}
}

func (p *parser) columnDef() (c columnDef, more []constraintDef) {
	c.name = p.name()
	word := p.peek().text
	c.serial = word == "serial" || word == "bigserial" || word == "smallserial" || word == "serial4" || word == "serial8"
	if c.t = p.typeName(); c.serial {
		c.notNull = true
	}
	for {
		k := constraintDef{columns: []string{c.name}}
		if p.take("constraint") {
			k.name = p.name()
		}
		switch {
		case p.take("not", "null"):
			c.notNull = true
			continue
		case p.take("null"):
			continue
		case p.take("default"):
			c.fallback = p.plain()
			continue
		case p.take("generated"):
			if p.take("always") {
				c.identity = "always"
			} else {
				p.want("by", "default")
				c.identity = "by default"
			}
			p.want("as")
			if p.is("(") {
				p.refuse("generated columns")
			}
			p.want("identity")
			if p.is("(") {
				p.refuse("options of an identity")
			}
			c.notNull = true
			continue
		case p.take("primary", "key"):
			k.kind = "primary key"
		case p.take("unique"):
			k.kind = "unique"
		case p.is("check"):
			k.kind, k.check = "check", p.check()
		case p.is("references"):
			k.kind = "foreign key"
			p.references(&k)
		default:
			if k.name != "" || p.is("collate") {
				p.fail()
			}
			return c, more
		}
		p.notDeferrable()
		more = append(more, k)
	}
}

func (p *parser) createIndex(unique bool) stmt {
	c := &createIndex{unique: unique}
	p.take("concurrently")
	c.ifNotExists = p.ifNotExists()
	if !p.is("on") {
		c.name = p.name()
	}
	p.want("on")
	c.table = p.relation()
	if p.take("using") {
		if m := p.name(); m != "btree" && unique {
			p.refuse("unique indexes of the kind %s", m)
		}
	}
	p.want("(")
	for {
		c.keys = append(c.keys, p.indexKey())
		if !p.take("asc") {
			p.take("desc")
		}
		if p.take("nulls") && !p.take("first") {
			p.want("last")
		}
		if !p.take(",") {
			break
		}
	}
	p.want(")")
	if p.is("include") || p.is("with") || p.is("nulls") || p.is("tablespace") {
		p.refuse("create index … %s", p.peek().text)
	}
	if p.take("where") {
		c.where = p.expr()
	}
	return c
}

func (p *parser) createSequence() stmt {
	c := &createSequence{ifNotExists: p.ifNotExists(), name: p.relation(), start: 1, step: 1}
	for {
		switch {
		case p.take("start"):
			p.take("with")
			c.start = p.number()
		case p.take("increment"):
			p.take("by")
			c.step = p.number()
		default:
			if t := p.peek(); t.kind == tokWord {
				p.refuse("create sequence … %s", t.text)
			}
			if c.step < 1 || c.start < 1 {
				p.refuse("sequences that count down")
			}
			return c
		}
	}
}

func (p *parser) alter() stmt {
	p.want("alter")
	if !p.take("table") {
		p.refuse("alter %s", p.peek().text)
	}
	a := &alterTable{table: p.relation()}
	for {
		if !p.take("add") {
			p.refuse("alter table … %s", p.peek().text)
		}
		k, ok := p.tableConstraint()
		if !ok {
			p.refuse("alter table … add column, behind create table")
		}
		a.constraints = append(a.constraints, k)
		if !p.take(",") {
			return a
		}
	}
}
