package identity

import (
	"context"

	"github.com/ipuka/ipuka/internal/errs"
)

// SetDefaultOrganization chooses the organization that p's user means when none is
// named. It must be one that the user is a member of (errs.NotFound). It is a
// preference and is not recorded.
func (d *Directory) SetDefaultOrganization(ctx context.Context, p Principal, organizationID string) error {
	if _, err := d.store.role(ctx, organizationID, p.UserID); err != nil {
		return err
	}
	return d.store.setDefaultOrganization(ctx, p.UserID, organizationID)
}

// DefaultOrganization returns what was chosen, or else the organization that the user
// joined first; errs.NotFound for somebody who is in none.
func (d *Directory) DefaultOrganization(ctx context.Context, userID string) (Organization, error) {
	chosen, err := d.store.defaultOrganization(ctx, userID)
	if err != nil {
		return Organization{}, err
	}
	memberships, err := d.Organizations(ctx, userID)
	if err != nil {
		return Organization{}, err
	}
	var first *Membership
	for i, m := range memberships {
		if m.Organization.ID == chosen {
			return m.Organization, nil
		}
		if first == nil || m.Created.Before(first.Created) {
			first = &memberships[i]
		}
	}
	if first == nil {
		return Organization{}, errs.Errorf(errs.NotFound, "you are in no organization, ask an administrator to add you to one")
	}
	return first.Organization, nil
}
