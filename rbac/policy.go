package rbac

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// roles is a set of roles, one bit each.
type roles uint8

const (
	organizationMember roles = 1 << iota
	organizationAdmin
	stackRead
	stackWrite
	stackAdmin
)

// roleNames are the roles that the default policy must define, in the order of
// their bits.
var roleNames = [...]string{"organization-member", "organization-admin", "stack-read", "stack-write", "stack-admin"}

// role returns the role that a level is.
func (l Level) role() roles {
	switch l {
	case Read:
		return stackRead
	case Write:
		return stackWrite
	case Admin:
		return stackAdmin
	}
	return 0
}

// policy says which roles have a permission. It never changes.
type policy struct {
	holders         map[Permission]roles // every permission there is
	order           []Permission         // as permissions.txt has them
	seeOrganization roles
	seeStack        roles
}

// parsePolicy reads the lists of package policies. A permission that does not exist,
// an unknown role, a line twice or of another form is an error that names the line.
func parsePolicy(permissionText, roleText string) (*policy, error) {
	p := &policy{holders: make(map[Permission]roles)}
	for line := range strings.Lines(permissionText) {
		name := Permission(strings.TrimSpace(line))
		if name == "" || strings.HasPrefix(string(name), "#") {
			continue
		}
		if _, twice := p.holders[name]; twice {
			return nil, fmt.Errorf("permission %s is listed twice", name)
		}
		p.holders[name] = 0
		p.order = append(p.order, name)
	}
	if err := p.parseRoles(roleText); err != nil {
		return nil, err
	}
	p.seeOrganization, p.seeStack = p.holders[Membership], p.holders[StackRead]
	if p.seeOrganization == 0 || p.seeStack == 0 {
		return nil, fmt.Errorf("no role has %s, or none has %s", Membership, StackRead)
	}
	return p, nil
}

func (p *policy) parseRoles(text string) error {
	reader := csv.NewReader(strings.NewReader(text))
	reader.Comment, reader.TrimLeadingSpace, reader.FieldsPerRecord = '#', true, 3
	var defined roles
	for {
		fields, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("role policy: %w", err)
		}
		line, _ := reader.FieldPos(0)
		role := roleNamed(strings.TrimPrefix(fields[1], "role:"))
		permission := Permission(fields[2])
		holders, known := p.holders[permission]
		switch {
		case fields[0] != "p" || !strings.HasPrefix(fields[1], "role:"):
			return fmt.Errorf(`role policy: line %d: not of the form "p, role:NAME, PERMISSION"`, line)
		case role == 0:
			return fmt.Errorf("role policy: line %d: there is no role %q", line, fields[1])
		case !known:
			return fmt.Errorf("role policy: line %d: there is no permission %q", line, permission)
		case holders&role != 0:
			return fmt.Errorf("role policy: line %d: %s has %s already", line, fields[1], permission)
		}
		p.holders[permission] |= role
		defined |= role
	}
	for i, name := range roleNames {
		if defined&(1<<i) == 0 {
			return fmt.Errorf("role policy: role %q is missing", name)
		}
	}
	return nil
}

// roleNamed returns the role with a name, or the empty set.
func roleNamed(name string) roles {
	for i, known := range roleNames {
		if name == known {
			return 1 << i
		}
	}
	return 0
}
