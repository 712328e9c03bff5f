package identity

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// Provisioned is an account as an organization's identity provider keeps it (SCIM).
type Provisioned struct {
	UserName   string // subject of the identity at the organization's SAML connector
	ExternalID string // a second such subject when not empty
	Name       string
	Email      string // "" for none
	Active     bool
}

// check returns p as it is stored.
func (p Provisioned) check() (Provisioned, error) {
	if !storable(p.UserName) {
		return p, errs.Errorf(errs.Invalid, "userName has 1 to %d bytes and no control characters", maxSubject)
	}
	if p.ExternalID != "" && !storable(p.ExternalID) {
		return p, errs.Errorf(errs.Invalid, "externalId has up to %d bytes and no control characters", maxSubject)
	}
	p.Name = clean(p.Name, maxName)
	if p.Email == "" {
		return p, nil
	}
	var err error
	p.Email, err = CanonicalEmail(p.Email)
	return p, err
}

// subjects are what the identities of the account are called.
func (p Provisioned) subjects() []string {
	if p.ExternalID == "" || p.ExternalID == p.UserName {
		return []string{p.UserName}
	}
	return []string{p.UserName, p.ExternalID}
}

func (p Provisioned) identityRow(connector, subject, userID string, now time.Time) identityRow {
	return identityRow{Connector: connector, Subject: subject, UserID: userID, Created: database.Micros(now), Login: p.UserName, Email: p.Email}
}

// bySCIM is who has disabled a user whom an organization's provider has deactivated.
func bySCIM(organizationID string) string { return "scim:" + organizationID }

func errProvisioned() error {
	return errs.Errorf(errs.Conflict, "another account of the organization has this userName or externalId")
}

// ProvisionUser makes an account that the organization manages, and a member of it. An
// identity that exists is errs.Conflict. The login is made of the user name, and never
// follows it later.
func (d *Directory) ProvisionUser(ctx context.Context, actor Principal, organizationID string, p Provisioned) (User, error) {
	p, err := p.check()
	if err != nil {
		return User{}, err
	}
	var user User
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		o, err := d.store.lockHome(ctx, organizationID)
		if err != nil {
			return err
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		user, err = d.provision(ctx, o, p, now)
		if err != nil {
			return err
		}
		d.changed(ctx, o.ID)
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "scim-user-created", Object: "user:" + user.Login,
			Description: "The identity provider created " + user.Login + ", a member of organization " + o.Login,
			After:       user.provisionedFacts(p),
		}))
	})
	if err != nil {
		return User{}, err
	}
	return user, nil
}

func (d *Directory) provision(ctx context.Context, o home, p Provisioned, now time.Time) (User, error) {
	connector := SAMLConnector(o.ID)
	user := User{
		ID: uuid.NewString(), Name: p.Name, Email: p.Email, EmailVerified: p.Email != "", ManagedBy: o.ID, Created: now,
	}
	if !p.Active {
		user.Disabled, user.DisabledBy = now, bySCIM(o.ID)
	}
	var err error
	if user.Login, err = d.store.takeName(ctx, nameChoices(suggestLogin(p.UserName, p.Email), maxLogin), user.ID); err != nil {
		return User{}, err
	}
	if user.Name == "" {
		user.Name = user.Login
	}
	if err := d.store.insertUserRow(ctx, user); err != nil {
		return User{}, err
	}
	var rows []identityRow
	for _, subject := range p.subjects() {
		rows = append(rows, p.identityRow(connector, subject, user.ID, now))
	}
	if added, err := d.store.insertIdentities(ctx, rows...); err != nil || !added {
		return User{}, cond(err, errProvisioned())
	}
	return user, d.store.join(ctx, []joinRow{{OrganizationID: o.ID, UserID: user.ID, Role: string(RoleMember), Source: connector}}, now)
}

func (u User) provisionedFacts(p Provisioned) map[string]string {
	active := "false"
	if p.Active {
		active = "true"
	}
	return facts("user", u.ID, "userName", p.UserName, "externalId", p.ExternalID, "name", u.Name, "email", u.Email, "active", active)
}

// UpdateProvisioned changes an account that the organization manages; errs.NotFound for
// any other. Inactive ones are disabled at once, active ones enabled unless somebody
// else has disabled them. Changes that change nothing are not recorded.
//
// Its identities at the organization's SAML connector become p.UserName and
// p.ExternalID: one that somebody else has is errs.Conflict. The last administrator,
// of the organization or of the site, is disabled like everybody else.
func (d *Directory) UpdateProvisioned(ctx context.Context, actor Principal, organizationID, userID string, p Provisioned) (User, error) {
	p, err := p.check()
	if err != nil {
		return User{}, err
	}
	var user User
	err = d.db.Tx(ctx, func(ctx context.Context) error {
		before, err := d.store.lockUser(ctx, userID)
		if err != nil {
			return err
		}
		if organizationID == "" || before.ManagedBy != organizationID {
			return errNoUser()
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		var t trail
		user, err = d.updateProvisioned(ctx, &t, actor, before, p, now)
		if err != nil {
			return err
		}
		return d.finish(ctx, t)
	})
	if err != nil {
		return User{}, err
	}
	return user, nil
}

func (d *Directory) updateProvisioned(ctx context.Context, t *trail, actor Principal, before User, p Provisioned, now time.Time) (User, error) {
	after := before
	if p.Name != "" {
		after.Name = p.Name
	}
	if p.Email != before.Email {
		after.Email, after.EmailVerified = p.Email, p.Email != ""
	}
	renamed, was, err := d.moveProvisioned(ctx, before, p, now)
	if err != nil {
		return User{}, err
	}
	if after != before {
		if err := d.store.saveUser(ctx, after); err != nil {
			return User{}, err
		}
	}
	if after != before || renamed {
		t.add(before.ManagedBy, actor.Did(audit.Event{
			Name: "scim-user-updated", Object: "user:" + before.Login, Description: "The identity provider changed " + before.Login,
			Before: facts("name", before.Name, "email", before.Email, "subjects", was),
			After:  facts("name", after.Name, "email", after.Email, "userName", p.UserName, "externalId", p.ExternalID),
		}))
	}
	return d.activate(ctx, t, actor, after, p.Active, now)
}

// activate enables and disables an account as its provider says.
func (d *Directory) activate(ctx context.Context, t *trail, actor Principal, user User, active bool, now time.Time) (User, error) {
	organizationID := user.ManagedBy
	e := audit.Event{Object: "user:" + user.Login}
	switch by := bySCIM(organizationID); {
	case active && user.DisabledBy == by:
		e.Name, e.Description = "scim-user-activated", "The identity provider activated "+user.Login
		user.Disabled, user.DisabledBy = time.Time{}, ""
		if err := d.store.setDisabled(ctx, user.ID, user.Disabled, user.DisabledBy); err != nil {
			return User{}, err
		}
		t.touch(organizationID)
	case !active && user.DisabledBy != by && user.DisabledBy != byAdmin:
		e.Name, e.Description = "scim-user-deactivated", "The identity provider deactivated "+user.Login
		user.Disabled, user.DisabledBy = now, by
		if err := d.shutOut(ctx, t, user, by, now); err != nil {
			return User{}, err
		}
	default:
		return user, nil
	}
	t.add(organizationID, actor.Did(e))
	return user, nil
}

// moveProvisioned makes the identities of an account those that the provider names
// now. An old name goes, since the provider may give it to somebody else.
func (d *Directory) moveProvisioned(ctx context.Context, user User, p Provisioned, now time.Time) (changed bool, was string, err error) {
	connector := SAMLConnector(user.ManagedBy)
	rows, err := d.store.identityRows(ctx, user.ID)
	if err != nil {
		return false, "", err
	}
	missing := make(map[string]bool)
	for _, subject := range p.subjects() {
		missing[subject] = true
	}
	for _, row := range rows {
		if row.Connector != connector {
			continue
		}
		was += " " + row.Subject
		if missing[row.Subject] {
			delete(missing, row.Subject)
			continue
		}
		changed = true
		if _, err := d.store.deleteIdentity(ctx, user.ID, Identity{Connector: connector, Subject: row.Subject}); err != nil {
			return false, "", err
		}
	}
	if len(missing) == 0 {
		return changed, clean(was, maxDetail), nil
	}
	added := make([]identityRow, 0, len(missing))
	for subject := range missing {
		added = append(added, p.identityRow(connector, subject, user.ID, now))
	}
	if all, err := d.store.insertIdentities(ctx, added...); err != nil || !all {
		return false, "", cond(err, errProvisioned())
	}
	return true, clean(was, maxDetail), nil
}
