package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

func zip(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestReadBody(t *testing.T) {
	limit := httpapi.Limit{Wire: 1 << 16, Decoded: 4 << 20}
	text := []byte(`{"entries":[]}`)
	tests := map[string]struct {
		body     []byte
		encoding []string
		length   int64 // 0: as it is, -1: not told
		want     errs.Kind
	}{
		"plain":                    {body: text},
		"gzip":                     {body: zip(t, text), encoding: []string{"gzip"}},
		"x-gzip":                   {body: zip(t, text), encoding: []string{"x-gzip"}},
		"plain at the limit":       {body: make([]byte, 4<<20)},
		"plain over the limit":     {body: make([]byte, 4<<20+1), length: -1, want: errs.TooLarge},
		"told to be over":          {body: text, length: 4<<20 + 1, want: errs.TooLarge},
		"gzip over the wire limit": {body: append(zip(t, text), make([]byte, 1<<17)...), encoding: []string{"gzip"}, want: errs.TooLarge},
		"gunzips over the limit":   {body: zip(t, bytes.Repeat([]byte("0123456789abcdef"), 1<<18+1)), encoding: []string{"gzip"}, want: errs.TooLarge},
		"gzip bomb":                {body: zip(t, make([]byte, 3<<20)), encoding: []string{"gzip"}, want: errs.TooLarge},
		"truncated gzip":           {body: zip(t, bytes.Repeat(text, 100))[:40], encoding: []string{"gzip"}, want: errs.Invalid},
		"damaged gzip":             {body: damage(zip(t, text)), encoding: []string{"gzip"}, want: errs.Invalid},
		"not gzip":                 {body: text, encoding: []string{"gzip"}, want: errs.Invalid},
		"empty gzip":               {body: nil, encoding: []string{"gzip"}, want: errs.Invalid},
		"two members":              {body: append(zip(t, text), zip(t, text)...), encoding: []string{"gzip"}, want: errs.Invalid},
		"data after gzip":          {body: append(zip(t, text), 'x'), encoding: []string{"gzip"}, want: errs.Invalid},
		"two encodings":            {body: zip(t, zip(t, text)), encoding: []string{"gzip", "gzip"}, want: errs.Unsupported},
		"two in one header":        {body: zip(t, zip(t, text)), encoding: []string{"gzip, gzip"}, want: errs.Unsupported},
		"identity":                 {body: text, encoding: []string{"identity"}, want: errs.Unsupported},
		"brotli":                   {body: text, encoding: []string{"br"}, want: errs.Unsupported},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(test.body))
			r.Header["Content-Encoding"] = test.encoding
			if test.length != 0 {
				r.ContentLength = test.length
			}
			got, err := httpapi.ReadBody(r, limit)
			if test.want == "" && (err != nil || len(got) == 0) {
				t.Errorf("ReadBody = %d bytes, %v", len(got), err)
			}
			if test.want != "" && !errors.Is(err, test.want) {
				t.Errorf("ReadBody = %d bytes, %v; want %v", len(got), err, test.want)
			}
		})
	}
}

// damage breaks the checksum at the end of a gzip stream.
func damage(zipped []byte) []byte {
	zipped[len(zipped)-8] ^= 0xff
	return zipped
}

// What a client only says about its body's length takes no memory.
func TestReadBodyTrustsNoLength(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
	r.ContentLength = httpapi.Large.Decoded
	if body, err := httpapi.ReadBody(r, httpapi.Large); err != nil || string(body) != "{}" {
		t.Fatalf("%q, %v", body, err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
		t.Errorf("a body of 2 bytes that says it has %d took %d", r.ContentLength, took)
	}
}

func TestDecode(t *testing.T) {
	type target struct {
		StackName string `json:"stackName"`
		Options   struct {
			DryRun bool `json:"dryRun"`
		} `json:"options"`
		Tags map[string]string `json:"tags"`
	}
	for body, ok := range map[string]bool{
		`{"stackName":"dev","options":{"dryRun":true},"tags":{"a":"1","A":"2"}}`: true,
		`{"stackName":"dev","somethingNew":{"x":1}}`:                             true,
		`{"stackName":"dev","stackName":"prod"}`:                                 false,
		`{"options":{"dryRun":false,"dryRun":true}}`:                             false,
		`{"stackname":"dev"}`:                                                    false,
		`{"stackName":"dev","STACKNAME":"prod"}`:                                 false,
		"{\"stac\u212aName\":\"dev\"}":                                           false, // the Kelvin sign folds to k
		`{"options":{"DryRun":true}}`:                                            false,
		`{"stackName":1}`:                                                        false,
		`{"stackName":"dev"} {}`:                                                 false,
		`{"stackName":"dev"`:                                                     false,
		`{"stackName":"` + "\xff" + `"}`:                                         false,
		``:                                                                       false,
		`{"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`: false,
	} {
		var v target
		err := httpapi.Decode([]byte(body), &v)
		if ok && err != nil || !ok && !errors.Is(err, errs.Invalid) {
			t.Errorf("Decode(%.60s) = %v", body, err)
		}
	}
	var v target
	if err := httpapi.Decode([]byte(`{"tags":{"token":{"secret":"hunter2"}}}`), &v); err == nil || strings.Contains(errs.Public(err), "hunter2") {
		t.Errorf("the error shows the value: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"stackName":"dev","tags":{"a":"1"}}`))
	f.Add([]byte("{\"stac\u212aName\":\"dev\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var v struct {
			StackName string            `json:"stackName"`
			Tags      map[string]string `json:"tags"`
		}
		if err := httpapi.Decode(body, &v); err != nil && !errors.Is(err, errs.Invalid) {
			t.Errorf("Decode = %v", err)
		}
	})
}

func serve(t *testing.T, s *httpapi.Server, r *http.Request) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

func TestErrorBodyCarriesItsStatus(t *testing.T) {
	for kind, status := range map[errs.Kind]int{
		errs.Invalid: 400, errs.Unauthenticated: 401, errs.Forbidden: 403, errs.NotFound: 404, errs.NotAllowed: 405,
		errs.Conflict: 409, errs.TooLarge: 413, errs.Unsupported: 415, errs.Unprocessable: 422, errs.Exhausted: 429,
		errs.Internal: 500, errs.Unavailable: 503,
	} {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		s := &httpapi.Server{Log: logger, Handler: httpapi.Adapt(logger, func(http.ResponseWriter, *http.Request) error {
			return errs.Wrap(kind, errors.New("secret detail"), "try again")
		})}
		response, body := serve(t, s, httptest.NewRequest(http.MethodGet, "/api/x?code=hunter2", nil))
		id := response.Header.Get(httpapi.RequestIDHeader)
		if h := response.Header; h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%v: headers %v", kind, h)
		}
		if response.StatusCode != status || !strings.Contains(body, `"code":`+strconv.Itoa(status)) || id == "" {
			t.Errorf("%v: %d %s, request ID %q", kind, response.StatusCode, body, id)
		}
		if strings.Contains(body, "secret detail") {
			t.Errorf("%v: the client sees the cause: %s", kind, body)
		}
		if got := strings.Contains(log.String(), "secret detail"); got != (status >= 500) {
			t.Errorf("%v: the log has the cause: %v", kind, got)
		}
		if strings.Contains(log.String(), "hunter2") || !strings.Contains(log.String(), id) {
			t.Errorf("%v: the log shows the query or lacks the request ID: %s", kind, log.String())
		}
		if again := httpapi.Status(httpapi.KindOf(status)); again != status {
			t.Errorf("%v: status %d comes back as %d", kind, status, again)
		}
	}
}

func TestPanicIsAnswered(t *testing.T) {
	var log bytes.Buffer
	s := &httpapi.Server{Log: slog.New(slog.NewTextHandler(&log, nil)), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") })}
	response, body := serve(t, s, httptest.NewRequest(http.MethodGet, "/", nil))
	if response.StatusCode != 500 || strings.Contains(body, "boom") || !strings.Contains(log.String(), "boom") {
		t.Errorf("%d %s; log %s", response.StatusCode, body, log.String())
	}
}

func TestClientAddress(t *testing.T) {
	tests := []struct{ remote, forwarded, want string }{
		{"192.0.2.1:1", "", "192.0.2.1"},
		{"192.0.2.1:1", "198.51.100.9", "192.0.2.1"}, // a stranger's claim
		{"10.0.0.1:1", "198.51.100.9", "198.51.100.9"},
		{"10.0.0.1:1", "203.0.113.5, 198.51.100.9, 10.0.0.2", "198.51.100.9"},
		{"10.0.0.1:1", "garbage", "10.0.0.1"},
		{"10.0.0.1:1", "", "10.0.0.1"},
	}
	for _, test := range tests {
		var got string
		s := &httpapi.Server{Log: slog.New(slog.DiscardHandler), TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = httpapi.RequestOf(r.Context()).Address })}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = test.remote
		if test.forwarded != "" {
			r.Header.Set("X-Forwarded-For", test.forwarded)
		}
		serve(t, s, r)
		if got != test.want {
			t.Errorf("from %s, forwarded for %q: %q, want %q", test.remote, test.forwarded, got, test.want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"pulumi-cli/1":          "pulumi-cli/1",
		"a\r\nforged line":      "aforged line",
		"\x1b[2Jcleared":        "[2Jcleared",
		"right\u202eleft":       "rightleft",
		strings.Repeat("é", 30): strings.Repeat("é", 8) + "…",
	} {
		if got := httpapi.Clean(in, 20); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}
