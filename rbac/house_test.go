package rbac_test

import (
	"context"
	"maps"
	"testing"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/rbac"
)

var migrations = []database.Migrations{audit.Migrations, identity.Migrations, rbac.Migrations}

// house is an engine with all that it needs.
type house struct {
	*rbac.Engine
	db        *database.DB
	log       *audit.Log
	directory *identity.Directory

	acme  identity.Organization
	admin identity.Principal
}

func each(t *testing.T, test func(t *testing.T, h *house)) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, build(t, db)) }, migrations...)
}

// build opens everything on a fresh database, with the organization Acme and its
// administrator root.
func build(t testing.TB, db *database.DB) *house {
	t.Helper()
	h := open(t, db)
	h.admin = h.user(t, "root")
	var err error
	if h.acme, err = h.directory.CreateOrganization(t.Context(), h.admin, "Acme", ""); err != nil {
		t.Fatal(err)
	}
	return h
}

// open opens everything on a database, as one more process.
func open(t testing.TB, db *database.DB) *house {
	t.Helper()
	if db.Dialect() == database.SQLite { // no test here cuts the power
		must(t, db.Conn(t.Context()).Exec("PRAGMA synchronous = OFF").Error)
	}
	log, err := audit.Open(audit.Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	directory, err := identity.Open(identity.Config{DB: db, Audit: log})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := rbac.Open(t.Context(), rbac.Config{DB: db, Directory: directory, Audit: log})
	if err != nil {
		t.Fatal(err)
	}
	return &house{Engine: engine, db: db, log: log, directory: directory}
}

func (h *house) user(t testing.TB, login string) identity.Principal {
	t.Helper()
	user, err := h.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: login})
	if err != nil {
		t.Fatal(err)
	}
	return identity.Principal{UserID: user.ID, Login: user.Login}
}

func (h *house) member(t testing.TB, login string) identity.Principal {
	t.Helper()
	p := h.user(t, login)
	if _, err := h.directory.AddMember(t.Context(), h.admin, h.acme.ID, login, identity.RoleMember); err != nil {
		t.Fatal(err)
	}
	return p
}

func (h *house) may(user identity.Principal, permission rbac.Permission, o rbac.Object) bool {
	return h.Snapshot().Decide(user.UserID, permission, o).Allow
}

// must fails unless a call has no error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	org  = rbac.Object{Organization: "Acme"}
	prod = object("Acme", "web", "prod")
	dev  = object("Acme", "web", "dev")
)

// equalsReference holds an engine's snapshot against casbin over the same database,
// in what tells every role and level apart.
func equalsReference(t interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}, h *house, stacks ...string) {
	t.Helper()
	ctx := context.Background()
	reference, err := h.Reference(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rosters, err := h.directory.AllMembers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	people := map[string]bool{"stranger": true}
	for _, roster := range rosters {
		for user := range maps.Keys(roster.Roles) {
			people[user] = true
		}
	}
	snapshot := h.Snapshot()
	for _, roster := range rosters {
		for _, name := range append(stacks, "") {
			o, permissions := object(roster.Organization.Login, "web", name), []rbac.Permission{"stack:write", "stack:delete"}
			if name == "" {
				permissions = []rbac.Permission{"audit_logs:read"}
			}
			for user := range people {
				for _, permission := range permissions {
					got := snapshot.Decide(user, permission, o)
					want, err := reference.Decide(user, permission, o)
					if err != nil {
						t.Fatal(err)
					}
					if got.Allow != want.Allow || got.Visible != want.Visible {
						t.Fatalf("%s %s %s: index %+v, casbin %+v", user, permission, o, got, want)
					}
				}
			}
		}
	}
}
