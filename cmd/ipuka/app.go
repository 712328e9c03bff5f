package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gocloud.dev/blob/fileblob"
	"gocloud.dev/secrets/localsecrets"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/scim"
	"github.com/ipuka/ipuka/internal/assertion"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/internal/mail"
	"github.com/ipuka/ipuka/internal/outbound"
	"github.com/ipuka/ipuka/internal/sealed"
	"github.com/ipuka/ipuka/proxy"
	"github.com/ipuka/ipuka/rbac"
	"github.com/ipuka/ipuka/state"
	"github.com/ipuka/ipuka/web"
)

// stateService is what the embedded state service calls itself in assertions.
const stateService = "ipuka-state"

// app is every part of a running Ipuka, in the order in which they are opened.
type app struct {
	log       *slog.Logger
	db        *database.DB
	audit     *audit.Log
	directory *identity.Directory
	mail      *mail.Outbox
	email     *email.Connector
	saml      *saml.Provider
	scim      *scim.Handler
	ways      connectors // to sign in, besides the password
	engine    *rbac.Engine
	state     *state.Server
	gate      *proxy.Gate
	console   *web.Console

	draining atomic.Bool
	closers  []func() error
	workers  sync.WaitGroup
}

// openApp opens the data folder and everything in it, creating what is missing. An
// error is told in one line, and a folder that was in use is left as it was.
func openApp(ctx context.Context, c *config, log *slog.Logger) (_ *app, err error) {
	a := &app{log: log}
	defer func() {
		if err != nil {
			_ = a.close()
		}
	}()
	if err := os.MkdirAll(c.dataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	gateKey, masterKey, err := a.openKeys(c)
	if err != nil {
		return nil, err
	}
	if err := a.openDatabase(ctx, c); err != nil {
		return nil, err
	}
	signing, err := gateKey.signingKey()
	if err != nil {
		return nil, err
	}
	if err := a.openState(ctx, c, masterKey, signing); err != nil {
		return nil, err
	}
	if a.audit, err = audit.Open(audit.Config{DB: a.db}); err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	a.closers = append(a.closers, func() error { a.audit.Close(); return nil })
	if err := a.openIdentity(c, masterKey); err != nil {
		return nil, err
	}
	if a.engine, err = rbac.Open(ctx, rbac.Config{DB: a.db, Directory: a.directory, Audit: a.audit, Log: log}); err != nil {
		return nil, fmt.Errorf("loading the access rules: %w", err)
	}
	return a, a.openFront(c, gateKey, signing)
}

// openKeys reads the keys, or makes them for a folder that is not in use yet. A key
// made for an installation that turns out to have one is removed again.
func (a *app) openKeys(c *config) (gate, master key, err error) {
	_, err = os.Stat(filepath.Join(c.dataDir, databaseFile))
	fresh := errors.Is(err, fs.ErrNotExist)
	if master, err = loadKey(filepath.Join(c.dataDir, masterKeyFile), fresh); err != nil {
		return gate, master, err
	}
	// A lost gate key costs running updates their tokens and no more.
	gate, err = loadKey(filepath.Join(c.dataDir, gateKeyFile), true)
	return gate, master, err
}

func (a *app) openDatabase(ctx context.Context, c *config) (err error) {
	location := c.database
	if location == "" {
		location = "sqlite:" + filepath.Join(c.dataDir, databaseFile)
	}
	if a.db, err = database.Open(ctx, location); err != nil {
		return err
	}
	a.closers = append(a.closers, a.db.Close)
	return a.db.Migrate(ctx, audit.Migrations, identity.Migrations, mail.Migrations, email.Migrations, saml.Migrations, scim.Migrations, rbac.Migrations, state.Migrations)
}

func (a *app) openState(ctx context.Context, c *config, master key, signing ed25519.PrivateKey) error {
	folder := filepath.Join(c.dataDir, checkpointDir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	bucket, err := fileblob.OpenBucket(folder, &fileblob.Options{Metadata: fileblob.MetadataDontWrite, NoTempDir: true, DirFileMode: 0o700})
	if err != nil {
		return fmt.Errorf("opening the checkpoints: %w", err)
	}
	a.closers = append(a.closers, bucket.Close)
	keeper := localsecrets.NewKeeper([32]byte(master.bytes))
	a.closers = append(a.closers, keeper.Close)
	a.state, err = state.Open(ctx, state.Config{
		DB: a.db, Bucket: bucket, Keeper: keeper, Log: a.log,
		Verifier: assertion.NewVerifier(signing.Public().(ed25519.PublicKey), stateService),
	})
	if err != nil && master.fresh {
		_ = os.Remove(master.path) // it was made for a database that has another
	}
	return err
}

// openIdentity opens the directory and every way to sign in.
func (a *app) openIdentity(c *config, master key) error {
	boxes := make(map[string]*sealed.Box)
	for _, purpose := range []string{"directory", "mail", "email", "saml"} {
		box, err := sealed.New(master.bytes, "identity "+purpose)
		if err != nil {
			return err
		}
		boxes[purpose] = box
	}
	var err error
	console := c.addresses().console
	if a.directory, err = identity.Open(identity.Config{DB: a.db, Audit: a.audit, Box: boxes["directory"]}); err != nil {
		return fmt.Errorf("opening the directory: %w", err)
	}
	post := mail.Config{DB: a.db, Box: boxes["mail"], From: c.mailFrom, Log: a.log}
	if c.smtp.Host != "" {
		post.SMTP = &c.smtp
	}
	if a.mail, err = mail.Open(post); err != nil {
		return fmt.Errorf("opening the mail queue: %w", err)
	}
	a.email, err = email.New(email.Config{
		DB: a.db, Directory: a.directory, Audit: a.audit, Mail: a.mail, Box: boxes["email"], ConsoleURL: console,
		SignUp: c.signUp, PasswordLogin: c.passwordLogin,
	})
	if err != nil {
		return err
	}
	guarded := outbound.Client(outbound.Options{Allow: c.outboundAllow})
	if a.saml, err = saml.Open(saml.Config{DB: a.db, Directory: a.directory, Audit: a.audit, Box: boxes["saml"], ConsoleURL: console, Client: guarded}); err != nil {
		return err
	}
	if a.scim, err = scim.New(scim.Config{DB: a.db, Directory: a.directory, Audit: a.audit, BaseURL: c.addresses().api, Log: a.log}); err != nil {
		return err
	}
	a.ways.saml = a.saml
	configured := outbound.Client(outbound.Options{Private: true, Timeout: 10 * time.Second})
	for _, wanted := range c.connectors {
		connector, err := wanted.open(configured)
		if err != nil {
			return fmt.Errorf("connector %s: %w", wanted.name, err)
		}
		a.ways.site = append(a.ways.site, connector)
	}
	return nil
}

func (a *app) openFront(c *config, gateKey key, signing ed25519.PrivateKey) (err error) {
	a.gate, err = proxy.New(proxy.Config{
		Directory: a.directory, Engine: a.engine, Audit: a.audit, Upstream: a.state,
		Signer: assertion.NewSigner(signing, stateService), Key: gateKey.bytes, Log: a.log,
		Email: a.email, Connectors: a.ways, SAML: a.saml, SCIM: a.scim, Mail: a.mail,
		ConsoleURL: c.addresses().console, OpenOrganizations: c.openOrganizations,
	})
	if err != nil {
		return err
	}
	urls := c.addresses()
	a.console, err = web.New(web.Config{
		Directory: a.directory, Email: a.email, Connectors: a.ways, Metadata: a.saml, Key: gateKey.bytes, API: a.gate, OpenOrganizations: c.openOrganizations,
		APIURL: urls.api, ConsoleURL: urls.console, Version: programVersion(), Log: a.log,
	})
	return err
}

// work runs what goes on in the background until ctx ends.
func (a *app) work(ctx context.Context) {
	a.workers.Go(func() { a.state.Run(ctx) })
	for name, run := range map[string]func(context.Context) error{
		"access rules": a.engine.Run, "directory": a.directory.Run, "mail": a.mail.Run, "SAML metadata": a.saml.Run,
		"accounts at providers": func(ctx context.Context) error { return a.directory.RunRechecks(ctx, a.ways) },
	} {
		a.workers.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				a.log.Error("background work has stopped", "work", name, "error", err)
			}
		})
	}
}

// close ends the background work, whose context has ended, and closes in reverse.
func (a *app) close() error {
	a.workers.Wait()
	var problems []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		problems = append(problems, a.closers[i]())
	}
	return errors.Join(problems...)
}

// handler is what every listener serves: health, the API, and the console for the rest.
func (a *app) handler(c *config) http.Handler {
	known := c.hosts()
	alive := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		httpapi.WriteJSON(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	ready := httpapi.Adapt(a.log, a.ready)
	// Not a ServeMux: it would answer odd API paths with redirects, which lose the
	// body of a POST. The gate refuses them.
	route := func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/healthz":
			alive.ServeHTTP(w, r)
		case path == "/readyz":
			ready.ServeHTTP(w, r)
		case !known(r.Host):
			httpapi.WriteError(w, r, errs.Errorf(errs.Invalid, "this service is not known as %q; if it should be, set public_url", httpapi.Clean(r.Host, 100)))
		case path == "/api" || strings.HasPrefix(path, "/api/") || !strings.HasPrefix(path, "/"):
			a.gate.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/scim/"):
			a.scim.ServeHTTP(w, r)
		default:
			a.console.ServeHTTP(w, r)
		}
	}
	return &httpapi.Server{Log: a.log, TrustedProxies: c.trustedProxies, Handler: http.HandlerFunc(route)}
}

// ready tells load balancers whether to send requests here.
func (a *app) ready(w http.ResponseWriter, r *http.Request) error {
	if a.draining.Load() {
		return errs.Errorf(errs.Unavailable, "shutting down")
	}
	if err := a.db.Ping(r.Context()); err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}
