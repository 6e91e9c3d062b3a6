/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Interpreters that call one another on one C stack: `switching THREADS ROUNDS`.
 *
 * Each thread has a state in each of three interpreters. Its stack, from its first frame on, is
 * always a beginning of PATH: step0 of the first, step1 of the second, and so on, one by one, each
 * perhaps with a `leaf` on it. States come again while they have frames (0 calls 1, 1 calls 0).
 */

#include <Python.h>
#include <pthread.h>

enum { INTERPRETERS = 3 };
static const int PATH[] = {0, 1, 2, 1, 0, 2, 0};
enum { DEPTH = sizeof(PATH) / sizeof(PATH[0]) };

static int rounds;
static PyInterpreterState *interpreters[INTERPRETERS];
static PyThreadState *first[INTERPRETERS];
static __thread PyThreadState *states[INTERPRETERS];

static const char *CODE = "import sw\n"
			  "def leaf():\n"
			  "    t = 0\n"
			  "    for i in range(300): t += i\n"
			  "    return t\n"
			  "def inner(depth):\n"
			  "    leaf()\n"
			  "    sw.call(depth + 1)\n"
			  "    leaf()\n";

/* Run the function of one depth in the interpreter that PATH names. */
static int call(int depth)
{
	PyThreadState *before = PyThreadState_Swap(states[PATH[depth]]);
	char name[16];
	PyObject *module, *result;

	snprintf(name, sizeof(name), "step%d", depth);
	module = PyImport_AddModule("__main__"); /* borrowed */
	result = PyObject_CallMethod(module, name, NULL);
	if (!result)
		PyErr_Print();
	Py_XDECREF(result);
	PyThreadState_Swap(before);
	return result ? 0 : -1;
}

static PyObject *sw_call(PyObject *self, PyObject *args)
{
	int depth;

	if (!PyArg_ParseTuple(args, "i", &depth))
		return NULL;
	if (depth < DEPTH && call(depth))
		exit(1);
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"call", sw_call, METH_VARARGS, ""}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "sw", NULL, -1, methods};

static PyObject *init(void)
{
	return PyModule_Create(&module);
}

static void define(void)
{
	char text[256];

	if (PyRun_SimpleString(CODE))
		exit(1);
	for (int depth = 0; depth < DEPTH; depth++) {
		snprintf(text, sizeof(text), "def step%d(): %s(%d)\n", depth,
			 depth % 2 ? "inner" : "leaf(); sw.call", depth + (depth % 2 ? 0 : 1));
		if (PyRun_SimpleString(text))
			exit(1);
	}
}

/* Run a few times; states but the first's are made anew for it. */
static void begin_again(void)
{
	for (int i = 1; i < INTERPRETERS; i++)
		states[i] = PyThreadState_New(interpreters[i]);
	for (int i = 0; i < rounds; i++) {
		if (call(0))
			exit(1);
	}
	for (int i = 1; i < INTERPRETERS; i++) {
		PyThreadState_Swap(states[i]);
		PyThreadState_Clear(states[i]);
		PyThreadState_Swap(states[0]);
		PyThreadState_Delete(states[i]);
	}
}

static void *run(void *unused)
{
	states[0] = PyThreadState_New(interpreters[0]);
	PyEval_RestoreThread(states[0]);
	while (1)
		begin_again();
}

int main(int argc, char **argv)
{
	pthread_t thread;

	PyImport_AppendInittab("sw", init);
	Py_Initialize();
#if PY_VERSION_HEX < 0x03070000
	PyEval_InitThreads();
#endif
	for (int i = 0; i < INTERPRETERS; i++) {
		first[i] = i ? Py_NewInterpreter() : PyThreadState_Get();
		interpreters[i] = first[i]->interp;
		define();
	}
	PyThreadState_Swap(first[0]);
	PyRun_SimpleString("import sys; sys.setswitchinterval(0.0005)");
	PyEval_SaveThread();
	rounds = atoi(argv[2]);
	for (int i = 0; i < atoi(argv[1]); i++)
		pthread_create(&thread, NULL, run, NULL);
	pthread_join(thread, NULL);
	return 1;
}
