package httpapi

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"reflect"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/internal/errs"
)

// Limit bounds a request body.
type Limit struct {
	Wire    int64 // bytes of a compressed body as sent
	Decoded int64 // bytes after gunzip, and bytes of a body that is not compressed
}

// Limits of the Pulumi protocol's three sizes of body.
var (
	// Small suits requests that carry names and options.
	Small = Limit{Wire: 1 << 20, Decoded: 4 << 20}
	// Medium suits batches: journal entries, engine events, secrets.
	Medium = Limit{Wire: 16 << 20, Decoded: 64 << 20}
	// Large suits whole deployments.
	Large = Limit{Wire: 64 << 20, Decoded: 256 << 20}
)

// maxRatio bounds what a compressed body may grow to. Deployments reach 50:1;
// a bomb of zeros reaches 1029:1. The first freeRatioBytes are exempt, since tiny
// bodies compress well for honest reasons.
const (
	maxRatio       = 200
	freeRatioBytes = 1 << 20
)

// Body returns r's body, gunzipped where it is compressed, as a reader that fails
// with a kind of its own: errs.TooLarge past a limit, errs.Invalid for a truncated
// or damaged stream. Exactly one gzip member is read; anything after it is refused.
// Any other Content-Encoding than one gzip layer is errs.Unsupported.
func Body(r *http.Request, limit Limit) (io.ReadCloser, error) {
	encodings := r.Header.Values("Content-Encoding")
	switch {
	case len(encodings) == 0:
		if r.ContentLength > limit.Decoded {
			return nil, tooLarge(limit.Decoded)
		}
		return &bodyReader{src: r.Body, left: limit.Decoded, limit: limit.Decoded, closer: r.Body}, nil
	case len(encodings) == 1 && (encodings[0] == "gzip" || encodings[0] == "x-gzip"):
		if r.ContentLength > limit.Wire {
			return nil, tooLarge(limit.Wire)
		}
		wire := &wireReader{r: r.Body, left: limit.Wire, limit: limit.Wire}
		buffered := bufio.NewReader(wire)
		zr, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, AsError(errs.Invalid, err, "the request body says it is gzip but is not")
		}
		zr.Multistream(false)
		return &bodyReader{src: zr, wire: wire, tail: buffered, left: limit.Decoded, limit: limit.Decoded, closer: r.Body}, nil
	default:
		return nil, errs.Errorf(errs.Unsupported, "send the request body plain or with one gzip layer, no other Content-Encoding is understood")
	}
}

func tooLarge(limit int64) error {
	return errs.Errorf(errs.TooLarge, "the request body is larger than the %d bytes allowed here", limit)
}

// wireReader counts and bounds the bytes as they were sent.
type wireReader struct {
	r                 io.Reader
	left, limit, read int64
}

func (w *wireReader) Read(p []byte) (int, error) {
	if w.left <= 0 {
		// A body of exactly the limit is fine: only one more byte is too many.
		var one [1]byte
		if n, err := w.r.Read(one[:]); n == 0 {
			return 0, err
		}
		return 0, tooLarge(w.limit)
	}
	n, err := w.r.Read(p[:min(int64(len(p)), w.left)])
	w.left -= int64(n)
	w.read += int64(n)
	return n, err
}

// bodyReader bounds the decoded bytes and gives every failure a kind.
type bodyReader struct {
	src         io.Reader
	wire        *wireReader   // beneath gzip, else nil
	tail        *bufio.Reader // what follows the gzip member
	left, limit int64
	read        int64
	closer      io.Closer
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	// One byte past the limit is asked for, so that reaching it is told from ending there.
	n, err := b.src.Read(p[:min(int64(len(p)), b.left+1)])
	b.left -= int64(n)
	b.read += int64(n)
	switch {
	case b.left < 0:
		return 0, tooLarge(b.limit)
	case b.wire != nil && b.read > freeRatioBytes && b.read > maxRatio*b.wire.read:
		return 0, errs.Errorf(errs.TooLarge, "the request body expands more than %d times, which no deployment does", maxRatio)
	case err == io.EOF && b.tail != nil:
		if _, tailErr := b.tail.ReadByte(); !errors.Is(tailErr, io.EOF) {
			return n, errs.Errorf(errs.Invalid, "the request body has data after its gzip stream")
		}
		return n, io.EOF
	case err != nil && err != io.EOF:
		return n, AsError(errs.Invalid, err, "the request body cannot be read to its end")
	}
	return n, err
}

func (b *bodyReader) Close() error { return b.closer.Close() }

// maxReserve bounds the memory that a body gets for the length it says it has; for
// more it has to arrive.
const maxReserve = 1 << 20

// ReadBody returns the whole of r's body, gunzipped, within limit.
func ReadBody(r *http.Request, limit Limit) ([]byte, error) {
	body, err := Body(r, limit)
	if err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(make([]byte, 0, max(min(r.ContentLength, maxReserve), 512)))
	if _, err := buf.ReadFrom(body); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// ReadJSON reads r's body within limit and decodes it into v by the rules of [Decode].
func ReadJSON(r *http.Request, limit Limit, v any) error {
	body, err := ReadBody(r, limit)
	if err != nil {
		return err
	}
	return Decode(body, v)
}

// Decode decodes one JSON value into v, which must point to a zero value. Unknown
// members are ignored, as newer clients send them. Everything on which two readers
// could disagree is errs.Invalid: a duplicate name, a name that is a member of v
// but for its case (encoding/json would take it, others would not), invalid UTF-8,
// trailing data, nesting deeper than 10,000.
func Decode(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return errs.Wrap(errs.Invalid, err, "the request body is not the JSON that this call takes: "+jsonProblem(err))
	}
	loose := reflect.New(reflect.TypeOf(v).Elem())
	if err := json.Unmarshal(data, loose.Interface(), json.MatchCaseInsensitiveNames(true)); err != nil ||
		!reflect.DeepEqual(loose.Elem().Interface(), reflect.ValueOf(v).Elem().Interface()) {
		return errs.Errorf(errs.Invalid, "the request body has a member whose name differs only in case from one that this call takes")
	}
	return nil
}

// jsonProblem names what is wrong and where, without the offending value, which
// may be a secret.
func jsonProblem(err error) string {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		at := string(semantic.JSONPointer)
		if at == "" {
			at = "the top level"
		}
		if semantic.GoType != nil {
			return "wrong type at " + at
		}
		return "wrong value at " + at
	}
	return syntaxProblem(err)
}
