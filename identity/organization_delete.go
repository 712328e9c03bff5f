package identity

import (
	"context"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// DeleteOrganization hides an organization with everything in it: it is as if it did
// not exist, until RestoreOrganization. Its name stays taken. The accounts that it
// manages are disabled with it, their sessions end.
func (d *Directory) DeleteOrganization(ctx context.Context, actor Principal, organizationID string) error {
	return d.changeMembers(ctx, organizationID, func(ctx context.Context, o Organization, now time.Time) error {
		if err := d.store.setDeleted(ctx, o.ID, now); err != nil {
			return err
		}
		if err := d.closeManaged(ctx, o.ID, now); err != nil {
			return err
		}
		return d.recordTwice(ctx, o, actor.Did(audit.Event{
			Name: "organization-deleted", Object: o.Login,
			Description: "Deleted organization " + o.Login,
			Before:      facts("id", o.ID, "login", o.Login, "name", o.Name),
		}))
	})
}

// RestoreOrganization takes DeleteOrganization back. It is errs.Conflict for one that
// is not deleted, or whose group is behind another organization by now, and
// errs.NotFound for one that is purged.
func (d *Directory) RestoreOrganization(ctx context.Context, actor Principal, organizationID string) error {
	return d.changeDeleted(ctx, organizationID, func(ctx context.Context, o Organization, _ time.Time) error {
		if err := d.store.setDeleted(ctx, o.ID, time.Time{}); err != nil {
			return err
		}
		if err := d.openManaged(ctx, o.ID); err != nil {
			return err
		}
		return d.recordTwice(ctx, o, actor.Did(audit.Event{
			Name: "organization-restored", Object: o.Login,
			Description: "Restored organization " + o.Login,
			After:       facts("id", o.ID, "login", o.Login, "name", o.Name),
		}))
	})
}

// PurgeOrganization removes what this package keeps of a deleted organization for
// good, apart from its name and its audit log; errs.Conflict for one that is not deleted.
func (d *Directory) PurgeOrganization(ctx context.Context, actor Principal, organizationID string) error {
	return d.changeDeleted(ctx, organizationID, func(ctx context.Context, o Organization, now time.Time) error {
		if err := d.store.purge(ctx, o.ID, now); err != nil {
			return err
		}
		return d.recordTwice(ctx, o, actor.Did(audit.Event{
			Name: "organization-purged", Object: o.Login,
			Description: "Purged organization " + o.Login,
			Before:      facts("id", o.ID, "login", o.Login, "name", o.Name),
		}))
	})
}

func (d *Directory) changeDeleted(ctx context.Context, organizationID string, fn func(ctx context.Context, o Organization, now time.Time) error) error {
	return d.db.Tx(ctx, func(ctx context.Context) error {
		o, err := d.store.lockDeleted(ctx, organizationID)
		if err != nil {
			return err
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		if err := fn(ctx, o, now); err != nil {
			return err
		}
		d.changed(ctx, o.ID)
		return nil
	})
}

func errNotDeleted(o Organization) error {
	return errs.Errorf(errs.Conflict, "organization %s is not deleted", o.Login)
}

// OrganizationQuery selects organizations of the site administrator's list.
type OrganizationQuery struct {
	Text    string // in name or display name, in whatever case
	Deleted bool   // the deleted ones instead of the others; purged ones are in neither
	Cursor  string // of the page before; "" for the first page
	Limit   int    // 0 is 100, more than 1000 is 1000
}

// OrganizationSummary is a line of that list.
type OrganizationSummary struct {
	Organization Organization
	Members      int64 // disabled ones included
	Deleted      time.Time
}

// AllOrganizations returns a page of organizations by name.
func (d *Directory) AllOrganizations(ctx context.Context, q OrganizationQuery) ([]OrganizationSummary, string, error) {
	after, err := decodeCursor(q.Cursor, 1)
	if err != nil {
		return nil, "", err
	}
	limit := pageSize(q.Limit)
	page, err := d.store.organizations(ctx, clean(q.Text, maxSearch), q.Deleted, after[0], limit+1)
	if err != nil || len(page) <= limit {
		return page, "", err
	}
	page = page[:limit]
	return page, encodeCursor(fold(page[limit-1].Organization.Login)), nil
}
