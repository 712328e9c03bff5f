package saml_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/saml/samltest"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
	"github.com/ipuka/ipuka/internal/sealed"
)

// directory is the part of one that this package needs, in memory. What it is told
// inside a transaction that fails stays: the tests look at the calls.
type directory struct {
	mu            sync.Mutex
	organizations map[string]identity.Organization
	backings      []identity.Backing
	fail          error
}

func (d *directory) OrganizationByID(_ context.Context, id string) (identity.Organization, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, there := d.organizations[id]
	if !there {
		return o, errs.Errorf(errs.NotFound, "there is no such organization")
	}
	return o, nil
}

func (d *directory) Organization(ctx context.Context, login string) (identity.Organization, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.organizations {
		if strings.EqualFold(o.Login, login) || strings.EqualFold(o.Key, login) {
			return o, nil
		}
	}
	return identity.Organization{}, errs.Errorf(errs.NotFound, "there is no such organization")
}

func (d *directory) BackOrganization(_ context.Context, _ identity.Principal, id string, b identity.Backing) (identity.Organization, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return identity.Organization{}, d.fail
	}
	o := d.organizations[id]
	o.Kind, o.Connector = b.Kind, b.Connector
	d.organizations[id] = o
	d.backings = append(d.backings, b)
	return o, nil
}

// world is a provider with what it needs. Organization acme has ID o1, globex o2.
type world struct {
	*saml.Provider
	db        *database.DB
	directory *directory
	log       *audit.Log
	now       time.Time
	idp       *samltest.Signer
	server    *httptest.Server // of descriptors
	serve     func(w http.ResponseWriter)
	fetched   int
	box       *sealed.Box
	client    *http.Client
}

// The real directory is one.
var _ saml.Directory = (*identity.Directory)(nil)

var admin = identity.Principal{UserID: "u1", Login: "ada"}

const sso = "https://idp.example.test/sso?tenant=1"

func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, newWorld(t, db)) }, saml.Migrations, audit.Migrations)
}

func newWorld(t testing.TB, db *database.DB) *world {
	t.Helper()
	log, err := audit.Open(audit.Config{DB: db})
	ok(t, err)
	t.Cleanup(log.Close)
	box, err := sealed.New(bytes.Repeat([]byte{7}, sealed.KeySize), "saml")
	ok(t, err)
	w := &world{db: db, log: log, now: time.Now().UTC().Truncate(time.Microsecond), idp: samltest.NewSigner(t, issuer, 0)}
	w.directory = &directory{organizations: map[string]identity.Organization{
		"o1": {ID: "o1", Login: "acme-inc", Key: "acme"},
		"o2": {ID: "o2", Login: "globex", Key: "globex"},
	}}
	w.serve = func(rw http.ResponseWriter) { _, _ = io.WriteString(rw, w.descriptor()) }
	w.server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		w.fetched++
		w.serve(rw)
	}))
	t.Cleanup(w.server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(w.server.Certificate())
	w.client = outbound.Client(outbound.Options{Private: true, Roots: roots})
	w.box = box
	w.reopen(t, w.directory)
	return w
}

// reopen has the provider use another directory.
func (w *world) reopen(t testing.TB, d saml.Directory) {
	t.Helper()
	var err error
	w.Provider, err = saml.Open(saml.Config{
		DB: w.db, Directory: d, Audit: w.log, Box: w.box, ConsoleURL: console + "/", Client: w.client, Now: func() time.Time { return w.now },
	})
	ok(t, err)
	w.Quick()
}

func (w *world) descriptor() string {
	return w.idp.Descriptor(sso, samltest.POST, samltest.Redirect)
}

func (w *world) configure(t testing.TB, id string, c saml.Change) saml.Settings {
	t.Helper()
	s, err := w.Configure(t.Context(), admin, id, c)
	ok(t, err)
	return s
}

// events returns what is on record for an organization, the oldest first.
func (w *world) events(t testing.TB, log string) []audit.Event {
	t.Helper()
	page, err := w.log.List(t.Context(), log, audit.Query{})
	ok(t, err)
	var all []audit.Event
	for _, e := range page.Entries {
		all = append(all, e.Event)
	}
	slices.Reverse(all)
	return all
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func kind(t testing.TB, err error, want errs.Kind, part string) {
	t.Helper()
	if errs.KindOf(err) != want || err == nil || !strings.Contains(errs.Public(err), part) {
		t.Fatalf("%v; kind %q with %q expected", err, want, part)
	}
}

func ptr[T any](v T) *T { return &v }
