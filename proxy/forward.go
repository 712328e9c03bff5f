package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/rbac"
)

// Headers that cross the gate. Everything else stays on its side: the client's
// credential and whatever it claims about itself, the state service's cookies and
// internals.
var (
	requestHeaders  = []string{"Accept", "Content-Type", "User-Agent", "X-Pulumi-Source", "X-Pulumi-Deployment-Initiator"}
	responseHeaders = []string{"Content-Type", "Content-Length", "Content-Disposition", "X-Pulumi-Warning", "Retry-After"}
)

// maxAnswer bounds an answer that the gate must look at before it passes it on.
const maxAnswer = 16 << 20

// forward rebuilds the call from what was validated, lets the state service answer
// it and passes the answer on.
func (g *Gate) forward(w http.ResponseWriter, c *call) error {
	body, length, err := c.reader()
	if err != nil {
		g.complete(c, 0, err)
		return err
	}
	a := &answer{client: w, hold: c.route.Reply != nil, decide: c.decideRenamed}
	err = g.ask(c, a, c.route.Method, c.path(), c.query, body, length)
	if err == nil && c.route.Reply != nil && a.status < http.StatusBadRequest {
		err = c.route.Reply(g, c, a)
	}
	g.complete(c, a.status, err)
	if a.refused != nil {
		return g.refuse(c, a.refused)
	}
	if err != nil {
		return err
	}
	return a.flush()
}

// ask sends one request to the state service. The request is made anew, with no
// header but those listed and the assertion of who is calling.
func (g *Gate) ask(c *call, a *answer, method, path string, parameters url.Values, body io.ReadCloser, length int64) error {
	r, err := http.NewRequestWithContext(c.Context(), method, path, nil) //nolint:gosec // path is a pattern of the table with validated names
	if err != nil {
		return err
	}
	r.URL.RawQuery = parameters.Encode()
	r.Body, r.ContentLength = body, length
	for _, name := range requestHeaders {
		if value := c.Header.Get(name); value != "" {
			r.Header.Set(name, value)
		}
	}
	if c.lease != "" {
		r.Header.Set("Authorization", "update-token "+c.lease)
	}
	if c.route.Permission != anyone {
		if err := g.Signer.Sign(r, c.caller(), httpapi.RequestID(c.Context())); err != nil {
			return err
		}
	}
	g.Upstream.ServeHTTP(a, r)
	return a.failed()
}

// path is the upstream path: the route's pattern with the validated names in it, the
// organization's by the one that the state service knows.
func (c *call) path() string {
	path := c.route.Pattern
	for name, value := range c.names {
		if name == "org" && c.org.Key != "" {
			value = c.org.Key
		}
		path = strings.Replace(path, "{"+name+"}", value, 1)
	}
	return path
}

// answer receives what the state service answers. A success goes straight to the
// client, unless a Reply is to see it first; a failure is held, so that its body is
// always one that the CLI understands.
type answer struct {
	client  http.ResponseWriter
	decide  func(name string) error // of a stack that was called by a former name
	refused error
	header  http.Header
	status  int
	hold    bool
	held    bytes.Buffer
	over    bool
}

func (a *answer) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}

func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < 200 {
		return
	}
	a.status = status
	if name := a.header.Get(renamedHeader); name != "" && a.decide != nil {
		if a.refused = a.decide(name); a.refused != nil {
			a.hold = true
		}
	}
	if status >= http.StatusMultipleChoices {
		a.hold = true
	}
	if !a.hold {
		a.sendHeader()
	}
}

// renamedHeader is where the state service says which stack it answered for, when
// the one in the path is a former name of it.
const renamedHeader = "Ipuka-Stack"

// decideRenamed decides once more, on the stack that the path's name has turned out
// to stand for: a former name must open nothing that the present one does not.
func (c *call) decideRenamed(name string) error {
	parts := strings.Split(name, "/")
	if len(parts) != 3 {
		return errs.Errorf(errs.Unavailable, "the state service names no stack that can be decided on")
	}
	if parts[0] == c.org.Key {
		parts[0] = c.org.Login
	}
	err := c.need(c.route.Permission, rbac.Object{Organization: parts[0], Project: parts[1], Stack: parts[2]})
	if err != nil {
		return &refused{cause: notFound(c.object), reason: "renamed_not_visible", permission: c.route.Permission}
	}
	return nil
}

func (a *answer) sendHeader() {
	for _, name := range responseHeaders {
		if values := a.header.Values(name); len(values) > 0 {
			a.client.Header()[name] = values
		}
	}
	a.client.WriteHeader(a.status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.hold {
		return a.client.Write(p)
	}
	if a.held.Len()+len(p) > maxAnswer {
		a.over = true
		return len(p), nil
	}
	return a.held.Write(p)
}

// Flush and Unwrap let a reverse proxy stream through.
func (a *answer) FlushError() error {
	if a.hold {
		return nil
	}
	return http.NewResponseController(a.client).Flush()
}

// failed returns the error that the answer stands for, nil for a success. The state
// service's own refusal of the gate is the installation's fault and no client's: 503.
func (a *answer) failed() error {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	switch {
	case a.refused != nil:
		return a.refused
	case a.over:
		return errs.Errorf(errs.Unavailable, "the state service's answer is larger than the gate can check")
	case a.status < http.StatusMultipleChoices:
		return nil
	}
	var body httpapi.ErrorBody
	_ = json.Unmarshal(a.held.Bytes(), &body)
	if a.status == http.StatusUnauthorized || a.status < http.StatusBadRequest {
		return errs.Wrap(errs.Unavailable, fmt.Errorf("state service answered %d %s", a.status, body.Message), "the state service does not accept the gate, an administrator must look at its configuration")
	}
	kind := httpapi.KindOf(a.status)
	if body.Message == "" {
		body.Message = strings.ToLower(http.StatusText(a.status))
	}
	if kind == errs.Internal {
		return errs.Wrap(errs.Unavailable, errors.New(body.Message), "the state service failed, try again")
	}
	return errs.Errorf(kind, "%s", body.Message)
}

// flush sends a held answer.
func (a *answer) flush() error {
	if !a.hold {
		return nil
	}
	a.Header().Set("Content-Length", strconv.Itoa(a.held.Len()))
	a.sendHeader()
	_, err := a.client.Write(a.held.Bytes())
	if err != nil && !errors.Is(err, context.Canceled) {
		return nil // the client has gone; the outcome is on record
	}
	return nil
}

// replace makes v the body of the answer.
func (a *answer) replace(v any) error {
	body, err := httpapi.Marshal(v)
	if err != nil {
		return err
	}
	a.held.Reset()
	a.held.Write(body)
	return nil
}
