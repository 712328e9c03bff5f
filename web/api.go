package web

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// maxAnswer bounds what the console reads of one answer of the API: a page about a
// state that is larger could not be read by anybody.
const maxAnswer = 64 << 20

// api calls the API in process, as one signed-in user. Whatever the gate refuses
// to that user, the console cannot show.
type api struct {
	handler http.Handler
	who     identity.Principal
	ctx     context.Context // of the page's request: it carries the request ID
	address string
}

// get calls GET on the path made of segments and decodes the answer into out.
func (a *api) get(query url.Values, out any, segments ...string) error {
	return a.call(http.MethodGet, query, nil, out, segments...)
}

// call sends in as JSON, unless it is nil, and decodes the answer into out, unless
// that is nil. An answer of status 400 and above is an error of the kind of its
// status, with the API's message as its public text.
func (a *api) call(method string, query url.Values, in, out any, segments ...string) error {
	r, err := a.request(method, query, in, segments)
	if err != nil {
		return err
	}
	w := &answer{header: make(http.Header)}
	a.handler.ServeHTTP(w, r)
	switch {
	case w.over:
		return errs.Errorf(errs.TooLarge, "this is larger than the %d MiB that the console shows, use the pulumi command", maxAnswer>>20)
	case w.status >= http.StatusBadRequest:
		return w.err()
	case out == nil:
		return nil
	}
	// Duplicate names and the like are the state's own business here: the console
	// reads what it can.
	if err := json.Unmarshal(w.body.Bytes(), out, lenient); err != nil {
		return errs.Wrap(errs.Internal, err, "decoding the answer of the API")
	}
	return nil
}

func (a *api) request(method string, query url.Values, in any, segments []string) (*http.Request, error) {
	target := "/api"
	for _, s := range segments {
		target += "/" + url.PathEscape(s)
	}
	if encoded := query.Encode(); encoded != "" {
		target += "?" + encoded
	}
	var body io.Reader = http.NoBody
	if in != nil {
		data, err := httpapi.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(identity.NewContext(a.ctx, a.who), method, target, body)
	if err != nil {
		return nil, errs.Wrap(errs.NotFound, err, "there is no such page")
	}
	// As a server would have read it from the wire.
	r.RequestURI, r.RemoteAddr = target, a.address
	r.Header.Set("Accept", "application/vnd.pulumi+9")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "ipuka-console")
	return r, nil
}

// answer is an http.ResponseWriter that keeps a bounded answer in memory.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
	over   bool
}

func (w *answer) Header() http.Header { return w.header }

func (w *answer) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
}

func (w *answer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.body.Len()+len(p) > maxAnswer {
		w.over = true
		return 0, errs.Errorf(errs.TooLarge, "the answer is larger than the console reads")
	}
	return w.body.Write(p)
}

// err returns the error that the answer is. What is not there and what may not be
// known to be there read the same.
func (w *answer) err() error {
	if w.status == http.StatusNotFound {
		return errNoPage
	}
	var body httpapi.ErrorBody
	if json.Unmarshal(w.body.Bytes(), &body, lenient) != nil || body.Message == "" {
		body.Message = http.StatusText(w.status)
	}
	err := errs.Errorf(httpapi.KindOf(w.status), "%s", body.Message)
	for _, problem := range body.Errors {
		if w.status == http.StatusUnauthorized && validName(problem.Attribute) &&
			(problem.ErrorType == "saml_reauth_required" || problem.ErrorType == "saml_login_required") {
			return &needsSSO{err, problem.Attribute}
		}
	}
	return err
}

// needsSSO is the API's refusal of somebody who has not signed in through an
// organization's single sign-on lately.
type needsSSO struct {
	error
	organization string
}

func (e *needsSSO) Unwrap() error { return e.error }

// path is where to do so, on the way to another page.
func (e *needsSSO) path(to string) string {
	return withReturn(stackName{Organization: "signin", Project: "sso", Stack: e.organization}.Path("reauth"), to)
}
