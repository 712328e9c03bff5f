// Package scim lets the identity provider of an organization keep its accounts and
// teams, by SCIM 2.0 (RFC 7643, RFC 7644).
//
// A user is an account that the organization manages, and its ID the ID of the
// account; a group is a team of kind "scim". Nothing else can be seen or touched:
// accounts that somebody else has made and teams of another kind are not there.
// What a request changes, it changes as a whole or not at all, and on record.
//
// # What differs from the letter of the RFCs
//
//   - Attributes that are not kept, extensions included, are accepted and ignored.
//   - A user who is deleted is deactivated, leaves the organization and is not found
//     any more; a POST with the same userName brings the same account back.
//   - "active" is what the identity provider said last. An account that an
//     administrator has disabled here stays disabled.
//   - Two groups of one organization cannot have the same displayName. The name of a
//     team is made of the first one and stays, since permissions hang on it.
//   - Groups are not in groups. There are no bulk requests, and no /Me.
//   - A version counts the changes made by SCIM.
//   - A filter that the database cannot evaluate alone looks at [MaxScan] resources at most.
package scim

import (
	"embed"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

//go:embed migrations/*.sql
var migrationFS embed.FS

// Migrations are the tables of this package. They come after [identity.Migrations].
var Migrations = database.Migrations{Name: "scim", FS: migrationFS}

// Connector is the name of the connector in the records of what was done by SCIM.
const Connector = "scim"

// Config is what a Handler needs.
type Config struct {
	Directory *identity.Directory
	DB        *database.DB
	Audit     identity.Recorder
	// BaseURL is the address of the API without a path: "https://ipuka.example.com".
	BaseURL string
	Log     *slog.Logger     // nil: slog.Default()
	Now     func() time.Time // nil: the database's clock
}

// Handler answers /scim/v2/{organization}/…. It is safe for concurrent use.
type Handler struct {
	directory *identity.Directory
	db        *database.DB
	store     store
	audit     identity.Recorder
	base      string
	log       *slog.Logger
}

// New returns a handler for the organizations of a directory.
func New(config Config) (*Handler, error) {
	if config.Directory == nil || config.DB == nil || config.Audit == nil {
		return nil, errors.New("scim: a directory, a database and an audit log are needed")
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	return &Handler{
		directory: config.Directory,
		db:        config.DB,
		store:     store{db: config.DB, now: config.Now},
		audit:     config.Audit,
		base:      strings.TrimSuffix(config.BaseURL, "/") + "/scim/v2/",
		log:       config.Log,
	}, nil
}

// ServeHTTP answers a request. Whoever has not the token of the organization learns
// nothing, not even whether the organization exists.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.serve(w, r); err != nil {
		httpapi.LogError(h.log, r, err)
		writeError(w, r, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	rest, ok := strings.CutPrefix(r.URL.Path, "/scim/v2/")
	if !ok {
		return errNoResource()
	}
	parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	c, err := h.authenticate(r, parts[0])
	if err != nil {
		return err
	}
	c.w, c.r = w, r
	id := ""
	if len(parts) == 3 {
		id = parts[2]
	}
	if len(parts) < 2 || len(parts) > 3 {
		return errNoResource()
	}
	switch parts[1] {
	case "Users":
		return c.route(id, c.users())
	case "Groups":
		return c.route(id, c.groups())
	case "ServiceProviderConfig", "ResourceTypes", "Schemas":
		return c.discover(parts[1], id)
	case "Bulk", "Me", ".search":
		return answer(http.StatusNotImplemented, "%s is not supported, see ServiceProviderConfig", parts[1])
	}
	return errNoResource()
}

// call is one authenticated request.
type call struct {
	*Handler
	w            http.ResponseWriter
	r            *http.Request
	organization identity.Organization
	actor        identity.Principal
	base         string // of the organization's resources
}

// kind is what can be done with resources of one kind.
type kind struct {
	create                    func() error
	read, put, patch, destroy func(id string) error
	list                      func(query) error
}

// route calls what a request asks for. The ID of a resource is the name of its path;
// "" is all of them.
func (c *call) route(id string, k kind) error {
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	allowed := "GET, POST"
	switch {
	case id == "" && method == http.MethodGet:
		return c.list(k, c.fromURL)
	case id == "" && method == http.MethodPost:
		return k.create()
	case id == "":
	case id == ".search":
		if allowed = "POST"; method == http.MethodPost {
			return c.list(k, c.fromBody)
		}
	case !plausible(id):
		return errNoResource()
	default:
		allowed = "GET, PUT, PATCH, DELETE"
		switch method {
		case http.MethodGet:
			return k.read(id)
		case http.MethodPut:
			return k.put(id)
		case http.MethodPatch:
			return k.patch(id)
		case http.MethodDelete:
			return k.destroy(id)
		}
	}
	c.w.Header().Set("Allow", allowed)
	return errs.Errorf(errs.NotAllowed, "the methods of this resource are %s", allowed)
}

func (c *call) list(k kind, read func() (query, error)) error {
	q, err := read()
	if err != nil {
		return err
	}
	return k.list(q)
}

// matched refuses a change of a resource that is not as the caller has seen it last
// (RFC 7644 §3.14).
func (c *call) matched(m meta) error {
	if tags := c.r.Header.Values("If-Match"); len(tags) > 0 && !hasTag(tags, m.etag()) {
		return answer(http.StatusPreconditionFailed, "the resource has changed, read it again")
	}
	return nil
}

// hasTag compares weakly (RFC 9110 §8.8.3.2).
func hasTag(headers []string, etag string) bool {
	for _, header := range headers {
		for tag := range strings.SplitSeq(header, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(etag, "W/") {
				return true
			}
		}
	}
	return false
}

// show answers with one resource.
func (c *call) show(status int, m meta, r resource, q query) error {
	c.w.Header().Set("ETag", m.etag())
	if location, ok := r["meta"].(resource)["location"].(string); ok && status == http.StatusCreated {
		c.w.Header().Set("Location", location)
	}
	write(c.w, status, q.project(r))
	return nil
}

// unchanged answers 304 when the caller has seen the resource as it is.
func (c *call) unchanged(m meta) bool {
	if tags := c.r.Header.Values("If-None-Match"); len(tags) == 0 || !hasTag(tags, m.etag()) {
		return false
	}
	c.w.Header().Set("ETag", m.etag())
	c.w.WriteHeader(http.StatusNotModified)
	return true
}
