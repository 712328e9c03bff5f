package web

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// maxDescriptor bounds the metadata of an identity provider, in bytes.
const maxDescriptor = 1 << 20

// descriptor is a provider's metadata, given in one of three ways.
type descriptor struct{ URL, Text, File string }

// descriptorForm reads the form that takes metadata. It is the one form with a file in
// it (RFC 7578), of which nothing touches the disk.
func (v *visit) descriptorForm(w http.ResponseWriter) (descriptor, error) {
	var d descriptor
	kind, _, err := mime.ParseMediaType(v.r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		form, err := v.formUpTo(w, 3*maxDescriptor) // as a form encodes it, XML may be three times as long
		return descriptor{URL: strings.TrimSpace(form.Get("url")), Text: strings.TrimSpace(form.Get("text"))}, err
	}
	v.r.Body = http.MaxBytesReader(w, v.r.Body, 2*maxDescriptor+maxForm)
	parts, err := v.r.MultipartReader()
	if err != nil {
		return d, errs.Errorf(errs.Invalid, "the form cannot be read, go back and send it again")
	}
	fields, seen := map[string]*string{"url": &d.URL, "text": &d.Text, "file": &d.File}, map[string]bool{}
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return d, nil
		} else if err != nil {
			return d, unreadable(err)
		}
		name := part.FormName()
		if seen[name] {
			return d, errs.Errorf(errs.Invalid, "the form has the field %q twice", httpapi.Clean(name, 40))
		}
		seen[name] = true
		if field := fields[name]; field != nil {
			if *field, err = descriptorText(part); err != nil {
				return d, err
			}
		}
	}
}

func descriptorText(part io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(part, maxDescriptor+1))
	switch {
	case err != nil:
		return "", unreadable(err)
	case len(text) > maxDescriptor:
		return "", errs.Errorf(errs.TooLarge, "the metadata is larger than %d MiB", maxDescriptor>>20)
	case !utf8.Valid(text):
		return "", errs.Errorf(errs.Invalid, "the metadata is not text in UTF-8: save it as that, or paste it")
	}
	return strings.TrimSpace(string(text)), nil
}

func unreadable(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return errs.Errorf(errs.TooLarge, "the form is larger than %d bytes", large.Limit)
	}
	return errs.Errorf(errs.Invalid, "the form cannot be read, go back and send it again")
}

// change returns what to ask the API for, or what is wrong with the form.
func (d descriptor) change() (in map[string]string, problem string) {
	given := 0
	for name, text := range map[string]string{"descriptorUrl": d.URL, "newIdpSsoDescriptor": d.Text + d.File} {
		if text != "" {
			given++
			in = map[string]string{name: text}
		}
	}
	switch {
	case given == 0:
		return nil, "Give the address of the metadata, a file with it, or the text itself."
	case given > 1 || d.Text != "" && d.File != "":
		return nil, "Give the metadata in one way only: empty the other fields."
	}
	return in, ""
}
