package sqlmodel

import (
	"fmt"
	"math/big"
	"strings"
)

// A decimal is a numeric: digits, of which so many stand behind the point.
type decimal struct {
	digits *big.Int
	scale  int
}

func decimalOf(n int64) decimal { return decimal{big.NewInt(n), 0} }

func decimalFrom(text string) (any, error) {
	if !numberPattern.MatchString(text) {
		lower := strings.ToLower(text)
		if strings.ContainsAny(lower, "e") || lower == "nan" || strings.HasSuffix(lower, "infinity") || strings.HasPrefix(strings.TrimLeft(lower, "+-"), ".") {
			return nil, refuse("the numeric %q", text)
		}
		return nil, invalid(typ{k: kNumeric}, text)
	}
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(text, "+"), ".")
	n, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return nil, invalid(typ{k: kNumeric}, text)
	}
	return decimal{n, len(fraction)}, nil
}

func (d decimal) String() string {
	s := new(big.Int).Abs(d.digits).String()
	if d.scale > 0 {
		if len(s) <= d.scale {
			s = strings.Repeat("0", d.scale-len(s)+1) + s
		}
		s = s[:len(s)-d.scale] + "." + s[len(s)-d.scale:]
	}
	if d.digits.Sign() < 0 {
		s = "-" + s
	}
	return s
}

// canonical is the same text for equal numbers of different scales.
func (d decimal) canonical() string {
	s := d.String()
	if d.scale > 0 {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s
}

func power(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// align gives two numbers the same scale.
func align(a, b decimal) (x, y *big.Int, scale int) {
	scale = max(a.scale, b.scale)
	return new(big.Int).Mul(a.digits, power(scale-a.scale)), new(big.Int).Mul(b.digits, power(scale-b.scale)), scale
}

func (d decimal) cmp(o decimal) int {
	x, y, _ := align(d, o)
	return x.Cmp(y)
}

func (d decimal) add(o decimal) decimal {
	x, y, scale := align(d, o)
	return decimal{x.Add(x, y), scale}
}

func (d decimal) neg() decimal { return decimal{new(big.Int).Neg(d.digits), d.scale} }

func (d decimal) mul(o decimal) decimal {
	return decimal{new(big.Int).Mul(d.digits, o.digits), d.scale + o.scale}
}

// round gives a number another scale, half away from zero.
func (d decimal) round(scale int) decimal {
	if scale >= d.scale {
		return decimal{new(big.Int).Mul(d.digits, power(scale-d.scale)), scale}
	}
	div := power(d.scale - scale)
	q, r := new(big.Int).QuoRem(d.digits, div, new(big.Int))
	if r.Abs(r).Lsh(r, 1).Cmp(div) >= 0 {
		q.Add(q, big.NewInt(int64(d.digits.Sign())))
	}
	return decimal{q, scale}
}

// limit rounds to the precision and scale of a type.
func (d decimal) limit(t typ) (any, error) {
	if t.mod == 0 {
		return d, nil
	}
	r := d.round(t.scale)
	if new(big.Int).Abs(r.digits).Cmp(power(t.mod)) >= 0 {
		return nil, stateError("22003", "numeric field overflow")
	}
	return r, nil
}

// integer rounds to an integer type.
func (d decimal) integer(t typ) (any, error) {
	n := d.round(0).digits
	if !n.IsInt64() || !fits(t, n.Int64()) {
		return nil, stateError("22003", fmt.Sprintf("%s out of range", t))
	}
	return n.Int64(), nil
}
