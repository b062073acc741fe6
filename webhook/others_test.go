package webhook

import (
	"testing"
)

func TestAPatternMatchesAName(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a.bc", false}, {"a.b*", "a.b", true}, {"a.b*", "a.bc", true}, {"a.b*", "x.b", false},
		{"a.*b*c", "a.xbxc", true}, {"a.*b*c", "a.xcxb", false}, {"a.b*b", "a.b", false}, {"a.b*b", "a.bb", true}, {"*", "a.b", true}, {"a.*bc*c", "a.bc", false},
	} {
		if got := matches(tt.pattern, tt.name); got != tt.want {
			t.Errorf("matches(%q, %q) is %v", tt.pattern, tt.name, got)
		}
	}
}
