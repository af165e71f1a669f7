package api

import (
	"net/http"

	"arca/internal/errs"
)

// status is the one table from an error's kind to a status code.
func status(k errs.Kind) int {
	switch k {
	case errs.Invalid, errs.Conflict:
		return http.StatusBadRequest
	case errs.Denied:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Unsupported:
		return http.StatusMethodNotAllowed
	case errs.TooLarge:
		return http.StatusRequestEntityTooLarge
	case errs.MediaType:
		return http.StatusUnsupportedMediaType
	case errs.Limited:
		return http.StatusTooManyRequests
	case errs.Sealed, errs.Unavailable, errs.NotActive:
		return http.StatusServiceUnavailable
	case errs.Precondition:
		return http.StatusPreconditionFailed
	case errs.Internal, errs.Failed:
	}
	return http.StatusInternalServerError
}
