/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* An extension that calls Python and spins without the interpreter's lock. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

volatile unsigned long parked_sink;

__attribute__((noinline)) static void spin_here(void)
{
	for (;;)
		parked_sink = parked_sink * 31 + 1;
}

__attribute__((noinline)) static void spin_below(int depth)
{
	if (depth)
		spin_below(depth - 1);
	else
		spin_here();
	parked_sink++;
}

static PyObject *spin(PyObject *self, PyObject *arguments)
{
	Py_BEGIN_ALLOW_THREADS spin_below(3);
	Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

__attribute__((noinline)) static PyObject *call_below(PyObject *function, int depth)
{
	PyObject *result;

	if (depth)
		result = call_below(function, depth - 1);
	else
		result = PyObject_CallFunction(function, NULL);
	parked_sink++;
	return result;
}

static PyObject *call(PyObject *self, PyObject *function)
{
	PyObject *result = call_below(function, 2);

	parked_sink++;
	return result;
}

static PyMethodDef methods[] = {
	{"spin", spin, METH_NOARGS, NULL},
	{"call", call, METH_O, NULL},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT, "parkedext", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_parkedext(void)
{
	return PyModule_Create(&definition);
}
