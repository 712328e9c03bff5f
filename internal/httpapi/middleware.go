package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/internal/errs"
)

// RequestIDHeader carries the ID that one request has in the answer, the log and
// the audit record. The CLI prints it with errors of status 500 and above.
const RequestIDHeader = "X-Pulumi-Request-ID"

// Request is what the plumbing knows of a request before anybody interprets it.
type Request struct {
	ID        string
	Address   string // the client's IP address, behind trusted proxies the one they report
	UserAgent string // cut to 256 bytes, control characters removed
}

type requestKey struct{}

// WithRequest returns a context that carries q.
func WithRequest(ctx context.Context, q Request) context.Context {
	return context.WithValue(ctx, requestKey{}, q)
}

// RequestOf returns the request that ctx belongs to, or the zero value.
func RequestOf(ctx context.Context) Request {
	q, _ := ctx.Value(requestKey{}).(Request)
	return q
}

// RequestID returns the ID of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string { return RequestOf(ctx).ID }

// Server is the outermost handler of a listener.
type Server struct {
	Log *slog.Logger
	// TrustedProxies may report the client's address in X-Forwarded-For.
	TrustedProxies []netip.Prefix
	Handler        http.Handler
}

// ServeHTTP gives the request an ID, answers a panic with status 500, and writes
// one line to the access log. The line has the path but never the query, which may
// carry a one-time code.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	q := Request{ID: uuid.NewString(), Address: s.address(r), UserAgent: Clean(r.UserAgent(), 256)}
	r = r.WithContext(WithRequest(r.Context(), q))
	w.Header().Set(RequestIDHeader, q.ID)
	// Of every answer, whoever gives it; what may be stored says so itself.
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	recorder := &statusWriter{ResponseWriter: w}
	defer func() {
		if cause := recover(); cause != nil {
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(cause)
			}
			s.Log.Error("panic", "request", q.ID, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			if recorder.status == 0 {
				WriteError(recorder, r, errs.Internal)
			}
		}
		s.Log.Info("request", "request", q.ID, "method", r.Method, "path", Clean(r.URL.Path, 512),
			"status", recorder.status, "bytes", recorder.bytes, "address", q.Address,
			"ms", float64(time.Since(start).Microseconds())/1000)
	}()
	s.Handler.ServeHTTP(recorder, r)
}

// address returns the client's IP address. X-Forwarded-For is read from the right,
// and only as far as trusted proxies wrote it: what lies further left is the
// client's own claim.
func (s *Server) address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusted(host); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		host = hop.String()
	}
	return host
}

func (s *Server) trusted(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, prefix := range s.TrustedProxies {
		if prefix.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// Clean removes control and formatting characters from text that a client chose,
// so that it cannot forge log lines or drive a terminal, and cuts it to limit bytes.
func Clean(text string, limit int) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || (c >= 0x80 && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
			(c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff || c == 0xfffd {
			return -1
		}
		return c
	}, text)
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit-len("…")], "") + "…"
	}
	return text
}

// statusWriter remembers what was answered, for the access log.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
