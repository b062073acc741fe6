package watched

import (
	"fmt"
	"regexp"
	"strings"
)

// Subject is the claim of a token that says who has signed in.
const Subject = "sub"

// NoClaim says that no token opens a count, whatever the column of users is called.
const NoClaim = "none"

var claims = regexp.MustCompile(`^[A-Za-z0-9_:/~@-]+(\.[A-Za-z0-9_:/~@-]+)*$`)

// SetClaim takes the name of a claim, such as sub, org_id or o.id.
func (o *Overrides) SetClaim(s string) error {
	if !claims.MatchString(s) || len(s) > 200 {
		return fmt.Errorf("%q is no claim of a token: write a name such as sub or org_id, or o.id for the id in o", s)
	}
	o.Claim = s
	return nil
}

// ClaimPath returns where a claim stands in a token: a dot leads into an object,
// but in a name that is an address, such as https://example.com/org_id.
func ClaimPath(claim string) []string {
	if strings.Contains(claim, "://") {
		return []string{claim}
	}
	return strings.Split(claim, ".")
}
