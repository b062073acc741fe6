package sqlmodel

import (
	"slices"
	"strings"
)

// advisoryLock compiles the functions of advisory locks.
func (c *compiler) advisoryLock(name string, args []*ex) *ex {
	kinds := map[int]kind{1: kInt8, 2: kInt4}
	if strings.HasSuffix(name, "_all") {
		kinds = map[int]kind{0: kInt8}
	}
	k, ok := kinds[len(args)]
	if !ok || strings.Contains(name, "shared") {
		mustNot(refuse("the function %s with %d arguments", name, len(args)))
	}
	for i := range args {
		if args[i] = c.typed(args[i], typ{k: k}); !args[i].t.isInt() || args[i].t.k > k {
			mustNot(refuse("the function %s of %s", name, args[i].t))
		}
	}
	c.advisory = true
	t := typ{k: kVoid}
	if strings.HasPrefix(name, "pg_try") || name == "pg_advisory_unlock" {
		t.k = kBool
	}
	return &ex{t: t, f: func(e *env) (any, error) {
		var key advisoryKey
		for i, a := range args {
			v, err := a.f(e)
			if err != nil || v == nil {
				return nil, err
			}
			if i == 1 {
				key.class, key.two = key.id, true
			}
			key.id = v.(int64)
		}
		return e.x.s.advise(name, key)
	}}
}

// holds reports whether the lock is held at all, and forgets ended transactions.
func (l *advisoryLock) holds() bool {
	l.byTx = slices.DeleteFunc(l.byTx, func(t *tx) bool { return t.status() != running })
	return l.bySession > 0 || len(l.byTx) > 0
}

// waitFor waits for an advisory lock, in the order of asking.
func (s *session) waitFor(l *advisoryLock) error {
	if l.holds() && l.holder == s {
		return nil
	}
	l.queue = append(l.queue, s)
	err := s.wait(func() []*tx {
		switch {
		case l.holds() && l.holder != s:
			return []*tx{{session: l.holder}}
		case l.queue[0] != s:
			return []*tx{{session: l.queue[0]}}
		}
		return nil
	})
	l.queue = slices.DeleteFunc(l.queue, func(o *session) bool { return o == s })
	return err
}

func (s *session) advise(name string, key advisoryKey) (any, error) {
	l := s.st.advisory[key]
	if l == nil {
		l = &advisoryLock{}
		s.st.advisory[key] = l
	}
	switch name {
	case "pg_advisory_unlock_all":
		for _, l := range s.st.advisory {
			if l.holder == s {
				l.bySession = 0
			}
		}
		return "", nil
	case "pg_advisory_unlock":
		if l.holder != s || l.bySession == 0 {
			return false, nil // with a warning
		}
		l.bySession--
		return true, nil
	}
	try := strings.HasPrefix(name, "pg_try")
	if try && (l.holds() && l.holder != s || !l.holds() && len(l.queue) > 0) {
		return false, nil
	}
	if err := s.waitFor(l); err != nil {
		return nil, err
	}
	l.holder = s
	if strings.Contains(name, "xact") {
		l.byTx = append(l.byTx, s.current)
	} else {
		l.bySession++
	}
	if try {
		return true, nil
	}
	return "", nil
}
