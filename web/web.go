// Package web is the console: the pages by which people sign in, make access tokens,
// and read what happens to their stacks.
//
// Pages are rendered here, from templates and static files inside the binary, and
// work without scripts; passkeys alone need one. The console has no way of its own to
// anybody's data: signing in and out, and a person's own account, are the business of
// package identity and its connectors, and everything else it reads or changes by
// calling the API in process, as the signed-in user. A page can therefore never show
// or do what the API would refuse to its reader.
//
// What a browser has to keep between the steps of a sign-in is sealed in cookies of
// its own, so that any replica can take the next step, and nobody else's browser. Why
// a sign-in was refused is on record; the page says no more than that it was.
//
// Every answer carries a strict Content-Security-Policy and is not to be stored by
// caches; requests that change something are taken from the console's own pages
// only. Secret values are never decrypted for a page.
package web

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
)

// Config is what a Console needs.
type Config struct {
	// Directory knows sessions, organizations and tokens.
	Directory *identity.Directory
	// Email signs people in by password or passkey, and creates the first administrator.
	Email Email
	// Connectors are the other ways to sign in; none when nil.
	Connectors identity.Connectors
	// Metadata describes Ipuka to the identity providers of organizations; nil when
	// no organization can have one.
	Metadata Metadata
	// Key seals what browsers keep between the steps of a sign-in: sealed.KeySize
	// bytes, the same on all replicas.
	Key []byte
	// API serves /api/. The console calls it with identity.NewContext on the
	// request's context and without credentials in the request.
	API http.Handler
	// APIURL is what people log in to: it is part of the commands on the pages.
	APIURL string
	// ConsoleURL is where browsers find the console. Its scheme decides about
	// secure cookies: plain http is taken for a loopback host only.
	ConsoleURL string
	// OpenOrganizations offers everybody to make organizations, as the API allows it.
	OpenOrganizations bool
	// Version is shown at the foot of every page.
	Version string
	// Log gets the faults that pages hide; the default logger unless set.
	Log *slog.Logger
	// Now is the clock by which pages say how long ago something was; time.Now
	// unless set.
	Now func() time.Time
}

// Console is the console's http.Handler. It is safe for concurrent use.
type Console struct {
	config Config
	api    *url.URL
	url    *url.URL
	secure bool // browsers speak https with the console
	mux    *http.ServeMux
	pages  pages
	assets assets
	origin *http.CrossOriginProtection
	boxes  boxes
}

// New returns a Console, or the first thing that is wrong with config.
func New(config Config) (*Console, error) {
	switch {
	case config.Directory == nil, config.Email == nil, config.API == nil:
		return nil, fmt.Errorf("the console needs a directory, a way to sign in, and the API")
	}
	if config.Connectors == nil {
		config.Connectors = none{}
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	c := &Console{config: config, origin: http.NewCrossOriginProtection()}
	var err error
	if c.api, err = baseURL(config.APIURL); err != nil {
		return nil, fmt.Errorf("URL of the API: %w", err)
	}
	if c.url, err = baseURL(config.ConsoleURL); err != nil {
		return nil, fmt.Errorf("URL of the console: %w", err)
	}
	c.secure = c.url.Scheme == "https"
	// A proxy in front may have replaced the host name that the browser asked for.
	if err := c.origin.AddTrustedOrigin(c.url.Scheme + "://" + c.url.Host); err != nil {
		return nil, fmt.Errorf("URL of the console: %w", err)
	}
	if c.boxes, err = newBoxes(config.Key); err != nil {
		return nil, fmt.Errorf("key of the console: %w", err)
	}
	if c.assets, err = loadAssets(); err != nil {
		return nil, fmt.Errorf("loading the console's files: %w", err)
	}
	if c.pages, err = c.loadPages(); err != nil {
		return nil, fmt.Errorf("loading the console's pages: %w", err)
	}
	c.mux = http.NewServeMux()
	for _, r := range routes() {
		c.mux.Handle(r.method+" "+r.pattern, c.handler(r))
	}
	c.mux.Handle("/", c.handler(route{access: public, serve: (*Console).notFound}))
	return c, nil
}

// baseURL parses an absolute URL of scheme https, or of http and a loopback host.
func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSuffix(text, "/"))
	switch {
	case err != nil:
		return nil, err
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q is not the URL of a host", text)
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return u, nil
	}
	return nil, fmt.Errorf("%q needs https: plain http is for this machine only", text)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// loginCommand is what a person runs to use this installation.
func (c *Console) loginCommand() string {
	return strings.TrimSpace(c.domainHint() + " pulumi login " + c.api.String())
}

// domainHint returns the environment variable by which the pulumi command finds the
// console, or "" where it finds it by itself from the API's address.
func (c *Console) domainHint() string {
	derived := ""
	switch {
	case c.api.Host == "localhost:8080":
		derived = "localhost:3000"
	case strings.HasPrefix(c.api.Host, "api."):
		derived = "app." + strings.TrimPrefix(c.api.Host, "api.")
	}
	if derived == c.url.Host {
		return ""
	}
	return "PULUMI_CONSOLE_DOMAIN=" + c.url.Host
}
