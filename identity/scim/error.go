package scim

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// The scimTypes of RFC 7644 §3.12 that are answered.
const (
	invalidFilter = "invalidFilter"
	invalidPath   = "invalidPath"
	invalidSyntax = "invalidSyntax"
	invalidValue  = "invalidValue"
	mutability    = "mutability"
	noTarget      = "noTarget"
	tooMany       = "tooMany"
	uniqueness    = "uniqueness"
)

const errorSchema = "urn:ietf:params:scim:api:messages:2.0:Error"

// failure is an error with a scimType, or with a status that no kind of error has.
type failure struct {
	scimType string
	status   int // 0: that of the error's kind
	public   error
}

func (f *failure) Error() string { return f.public.Error() }
func (f *failure) Unwrap() error { return f.public }

// refuse returns an errs.Invalid with a scimType.
func refuse(scimType, format string, args ...any) error {
	return &failure{scimType: scimType, public: errs.Errorf(errs.Invalid, format, args...)}
}

// taken returns an errs.Conflict over what must be unique.
func taken(format string, args ...any) error {
	return &failure{scimType: uniqueness, public: errs.Errorf(errs.Conflict, format, args...)}
}

// answer returns an error with a status of its own.
func answer(status int, format string, args ...any) error {
	return &failure{status: status, public: errs.Errorf(errs.Invalid, format, args...)}
}

func errNoResource() error { return errs.Errorf(errs.NotFound, "there is no such resource") }

// typed gives errors of the directory the scimType that goes with their kind.
func typed(err error) error {
	var known *failure
	if err == nil || errors.As(err, &known) {
		return err
	}
	switch errs.KindOf(err) {
	case errs.Invalid:
		return &failure{scimType: invalidValue, public: err}
	case errs.Conflict:
		return &failure{scimType: uniqueness, public: err}
	}
	return err
}

// errorBody is the error of RFC 7644 §3.12.
type errorBody struct {
	Schemas  []string `json:"schemas"`
	Status   string   `json:"status"`
	ScimType string   `json:"scimType,omitempty"`
	Detail   string   `json:"detail"`
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	status := httpapi.Status(err)
	body := errorBody{Schemas: []string{errorSchema}, Detail: httpapi.Message(r, err)}
	var f *failure
	if errors.As(err, &f) {
		body.ScimType = f.scimType
		if f.status != 0 {
			status = f.status
		}
	}
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="SCIM"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	body.Status = strconv.Itoa(status)
	write(w, status, body)
}

// write answers with v as JSON of the media type of RFC 7644 §8.1.
func write(w http.ResponseWriter, status int, v any) {
	text, err := httpapi.Marshal(v)
	if err != nil { // only a type that cannot be marshalled gets here
		status, text = http.StatusInternalServerError, fmt.Appendf(nil, `{"schemas":[%q],"status":"500","detail":"internal error"}`, errorSchema)
	}
	h := w.Header()
	h.Set("Content-Type", "application/scim+json")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = bytes.NewReader(text).WriteTo(w)
}
