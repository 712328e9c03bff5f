package outbound_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/internal/outbound"
)

func server(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func read(c *http.Client, url string) (int, string, error) {
	answer, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

func TestPrivateAddressesAreRefused(t *testing.T) {
	reached := false
	url := server(t, func(http.ResponseWriter, *http.Request) { reached = true })
	_, port, _ := strings.Cut(strings.TrimPrefix(url, "http://"), ":")
	c := outbound.Client(outbound.Options{Timeout: time.Second})
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1",
		"169.254.169.254", "100.64.0.1", "[fe80::1]", "[fd00::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1", "255.255.255.255",
	} {
		if _, _, err := read(c, "http://"+host+":"+port); !errors.Is(err, outbound.ErrAddress) {
			t.Errorf("%s: got %v", host, err)
		}
	}
	if reached {
		t.Error("the server was called")
	}
	for name, o := range map[string]outbound.Options{
		"all":  {Private: true},
		"some": {Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	} {
		if _, _, err := read(outbound.Client(o), url); err != nil {
			t.Errorf("%s private addresses allowed: got %v", name, err)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	followed := false
	evil := server(t, func(http.ResponseWriter, *http.Request) { followed = true })
	url := server(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil, http.StatusFound) })
	status, _, err := read(outbound.Client(outbound.Options{Private: true}), url)
	if err != nil || status != http.StatusFound || followed {
		t.Errorf("got %d, %v, followed %v", status, err, followed)
	}
}

func TestAnswersAreLimited(t *testing.T) {
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", len(r.URL.Path)-1))
	})
	c := outbound.Client(outbound.Options{Private: true, MaxBytes: 10})
	if _, body, err := read(c, url+"/"+strings.Repeat("a", 10)); err != nil || len(body) != 10 {
		t.Errorf("of 10 bytes got %d, %v", len(body), err)
	}
	if _, body, err := read(c, url+"/"+strings.Repeat("a", 11)); !errors.Is(err, outbound.ErrTooLarge) || len(body) > 10 {
		t.Errorf("of 11 bytes got %d, %v", len(body), err)
	}
}

func TestSlowAnswersEnd(t *testing.T) {
	over := make(chan struct{})
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-over:
		}
	})
	defer close(over)
	if _, _, err := read(outbound.Client(outbound.Options{Private: true, Timeout: 50 * time.Millisecond}), url); err == nil {
		t.Error("a body that never comes was waited for")
	}
}
