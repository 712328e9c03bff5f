package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/ipuka/ipuka/internal/errs"
)

// nameGrammar is how a refused name is explained.
const nameGrammar = "names are 1 to 100 of the characters A-Z a-z 0-9 _ . -, and neither . nor .."

// checkTarget refuses every request target that two servers could read in two ways:
// escapes, dot segments, empty segments, parameters, anything but plain path
// characters. No name in this API needs them, so the path that is matched is the
// path that was sent, byte for byte.
func checkTarget(r *http.Request) error {
	path := r.URL.Path
	if r.RequestURI != "" { // a real request, not one made in this process
		target, _, _ := strings.Cut(r.RequestURI, "?")
		if target != path || r.URL.Fragment != "" || r.URL.User != nil {
			return errs.Errorf(errs.Invalid, "the request path has characters that no name may have: %s", nameGrammar)
		}
	}
	for i := range len(path) {
		if c := path[i]; !nameByte(c) && c != '/' {
			return errs.Errorf(errs.Invalid, "the request path has characters that no name may have: %s", nameGrammar)
		}
	}
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." || len(segment) > 100 {
			return errs.Errorf(errs.Invalid, "the request path has an empty or impossible segment: %s", nameGrammar)
		}
	}
	return nil
}

func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-'
}

// query returns the parameters of r that the route knows, each at most once. Others
// are dropped: what was not looked at is not forwarded.
func query(r *http.Request, known []string) (url.Values, error) {
	sent, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errs.Errorf(errs.Invalid, "the query of the request cannot be parsed")
	}
	kept := url.Values{}
	for _, name := range known {
		switch values := sent[name]; {
		case len(values) > 1:
			return nil, errs.Errorf(errs.Invalid, "the query parameter %s is given twice", name)
		case len(values) == 1:
			kept.Set(name, values[0])
		}
	}
	return kept, nil
}
